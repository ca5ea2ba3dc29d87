'use strict';
'require form';
'require view';
'require tools.widgets as widgets';

return view.extend({
	render: function() {
		const map = new form.Map('fallow', _('Fallow'),
			_('What concerns this router. What the device may do is set in the app.'));
		const section = map.section(form.NamedSection, 'agent', 'agent');
		let option;

		option = section.option(form.Flag, 'enabled', _('Enable'));
		option.default = '1';
		option.rmempty = false;

		option = section.option(widgets.NetworkSelect, 'lan', _('Networks of the household'),
			_('Phones in them reach the app.'));
		option.multiple = true;
		option.nocreate = true;
		option.default = 'lan';

		option = section.option(form.Value, 'up_mbps', _('Upload of the line'),
			_('In Mbit/s; 0 lets the agent find out.'));
		option.datatype = 'ufloat';
		option.default = '0';

		option = section.option(form.Value, 'down_mbps', _('Download of the line'),
			_('In Mbit/s; 0 lets the agent find out.'));
		option.datatype = 'ufloat';
		option.default = '0';

		option = section.option(form.Value, 'service_port', _('Service port'),
			_('The port that consumers come to.'));
		option.datatype = 'port';
		option.default = '32557';

		option = section.option(form.Flag, 'open_ports', _('Open the service port'),
			_('In the firewall, for as long as the service runs.'));
		option.default = '1';
		option.rmempty = false;

		option = section.option(form.Value, 'content_dir', _('Folder for content'),
			_('On an external disk. Empty takes a mounted disk, else some memory; the flash is never filled.'));
		option.datatype = 'directory';
		option.optional = true;

		option = section.option(form.Value, 'content_mb', _('Room for content'),
			_('In MB; 0 leaves it to the agent.'));
		option.datatype = 'uinteger';
		option.default = '0';

		option = section.option(form.Flag, 'auto_upgrade', _('Automatic updates'),
			_('Installs the update that the network advises, from the package sources of this router.'));
		option.default = '1';
		option.rmempty = false;

		option = section.option(form.ListValue, 'log_level', _('Log level'));
		for (const level of [ 'debug', 'info', 'warning', 'error' ])
			option.value(level);
		option.default = 'info';

		option = section.option(form.Flag, 'jail', _('Run in a jail'),
			_('Besides a user of its own; needs procd-ujail.'));
		option.default = '0';
		option.rmempty = false;

		return map.render();
	}
});
