'use strict';
'require dom';
'require poll';
'require rpc';
'require ui';
'require uqr';
'require view';

const callStatus = rpc.declare({ object: 'fallow', method: 'status', expect: { '': {} } });
const callLog = rpc.declare({ object: 'fallow', method: 'log', expect: { log: '' } });
const callSetupCode = rpc.declare({ object: 'fallow', method: 'setup_code', expect: { '': {} } });
const callPause = rpc.declare({ object: 'fallow', method: 'pause', params: [ 'seconds' ], expect: { '': {} } });
const callResume = rpc.declare({ object: 'fallow', method: 'resume', expect: { '': {} } });

const POLL_S = 5;
const APP_PORT = 32556;

function stateName(state) {
	return {
		dormant: _('not activated'),
		activating: _('activating'),
		active: _('active'),
		paused: _('paused'),
		leaving: _('leaving')
	}[state] || state;
}

function megabits(bps) {
	return (typeof bps === 'number') ? _('%.1f Mbit/s').format(bps / 1e6) : _('not known yet');
}

function bytes(count) {
	return '%.1mB'.format(count || 0);
}

function appAddress() {
	const host = window.location.hostname;

	return 'http://%s:%d/'.format(host, APP_PORT);
}

function row(name, value) {
	return E('tr', { 'class': 'tr' }, [
		E('td', { 'class': 'td left', 'width': '40%' }, [ name ]),
		E('td', { 'class': 'td left' }, [ value ])
	]);
}

function uplinkText(uplink) {
	if (uplink && uplink.connected)
		return _('connected');

	if (uplink && uplink.error)
		return _('not connected: %s').format(uplink.error.title || uplink.error.type);

	return _('not connected');
}

function table(status) {
	if (status.error)
		return E('p', { 'class': 'alert-message warning' }, [ _('The agent does not answer. Is the service started?') ]);

	const line = status.line || {};
	const rows = [ row(_('State'), stateName(status.state)) ];

	if (status.paused_until)
		rows.push(row(_('Paused until'), new Date(status.paused_until * 1000).toLocaleString()));

	if (status.state !== 'dormant') {
		rows.push(row(_('Scheduler'), uplinkText(status.uplink)));
		rows.push(row(_('Serving now'), String((status.sessions || []).length)));
		rows.push(row(_('May be sent now'), megabits(status.budget_up_bps)));
		rows.push(row(_('Line upwards'), megabits(line.up_capacity_bps)));
		rows.push(row(_('Sent today'), bytes((status.today || {}).bytes_up)));
		rows.push(row(_('Times it yielded today'), String((status.today || {}).yields || 0)));
		rows.push(row(_('Content'), bytes((status.content || {}).bytes)));

		if (status.refusal)
			rows.push(row(_('Serves nobody because'), status.refusal.title));

		if (status.ports && status.ports.advice)
			rows.push(row(_('From outside'), status.ports.advice.title || status.ports.advice.detail || ''));
	}

	if (status.update)
		rows.push(row(_('Update advised'), status.update.version));

	return E('table', { 'class': 'table' }, rows);
}

return view.extend({
	load: function() {
		return callStatus();
	},

	/* Pausing is never undone by a failure to show it: the next look tells what is. */
	act: function(call) {
		return call.then(L.bind(function(answer) {
			if (answer.error)
				ui.addNotification(null, E('p', [ _('The agent does not answer. Is the service started?') ]), 'warning');

			return this.look();
		}, this));
	},

	look: function() {
		return callStatus().then(L.bind(this.show, this));
	},

	show: function(status) {
		const paused = (status.state === 'paused');

		dom.content(this.table, table(status));
		this.pauseButton.style.display = (status.state === 'active') ? '' : 'none';
		this.hourButton.style.display = (status.state === 'active') ? '' : 'none';
		this.resumeButton.style.display = paused ? '' : 'none';
	},

	showCode: function() {
		return callSetupCode().then(L.bind(function(answer) {
			if (!answer.setup_code)
				return ui.addNotification(null, E('p', [ _('The setup code cannot be read.') ]), 'warning');

			const address = appAddress() + '#code=' + answer.setup_code;
			const picture = E('div', { 'style': 'max-width:16em' });

			picture.innerHTML = uqr.renderSVG(address, { pixelSize: 4 });
			dom.content(this.code, [
				E('p', [ _('Setup code:'), ' ', E('strong', { 'id': 'fallow-code' }, [ answer.setup_code ]) ]),
				E('p', [ _('Or point the camera of a phone in this network at this picture:') ]),
				picture
			]);
		}, this));
	},

	showLog: function() {
		return callLog().then(L.bind(function(text) {
			dom.content(this.log, E('pre', { 'id': 'fallow-log', 'style': 'max-height:24em;overflow:auto' }, [
				text || _('Nothing has been logged.')
			]));
		}, this));
	},

	render: function(status) {
		const button = L.bind(function(id, text, handler) {
			return E('button', {
				'id': id,
				'class': 'btn cbi-button',
				'click': ui.createHandlerFn(this, handler)
			}, [ text ]);
		}, this);

		this.table = E('div', { 'id': 'fallow-status' });
		this.code = E('div');
		this.log = E('div');
		this.pauseButton = button('fallow-pause', _('Pause'), function() { return this.act(callPause(null)); });
		this.hourButton = button('fallow-pause-hour', _('Pause for an hour'), function() { return this.act(callPause(3600)); });
		this.resumeButton = button('fallow-resume', _('Resume'), function() { return this.act(callResume()); });

		const page = E('div', {}, [
			E('h2', [ _('Fallow') ]),
			E('p', [ _('Serves files for others with the part of the internet line that the household is not using.') ]),
			this.table,
			E('p', {}, [ this.pauseButton, ' ', this.hourButton, ' ', this.resumeButton ]),
			E('p', {}, [
				E('a', { 'href': appAddress(), 'target': '_blank', 'rel': 'noreferrer' }, [ _('Open the app') ]),
				': ', _('activation, points, limits')
			]),
			E('h3', [ _('Setup code') ]),
			E('p', [ _('It proves to the app that you may decide about this router. Show it to nobody else.') ]),
			button('fallow-show-code', _('Show the setup code'), this.showCode),
			this.code,
			E('h3', [ _('Log') ]),
			button('fallow-show-log', _('Show the log'), this.showLog),
			this.log
		]);

		this.show(status);
		poll.add(L.bind(this.look, this), POLL_S);

		return page;
	},

	handleSave: null,
	handleSaveApply: null,
	handleReset: null
});
