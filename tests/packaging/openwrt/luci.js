// The part of LuCI's runtime that our view uses, from its documented behaviour. What a view requires must be here.
import { renderSVG } from "/uqr.mjs";

const translations = await (await fetch("/translations")).json();

globalThis._ = (text) => translations[text] ?? text;
globalThis.L = { bind: (method, self, ...first) => method.bind(self, ...first) };
globalThis.E = (tag, attributes, children) => {
  const element = document.createElement(tag);
  if (Array.isArray(attributes)) [attributes, children] = [{}, attributes];
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value);
  }
  element.append(...(children === undefined ? [] : Array.isArray(children) ? children : [children]));
  return element;
};

const UNITS = ["", "K", "M", "G", "T"];
String.prototype.format = function (...values) {
  return this.replace(/%(?:\.(\d+))?([sdfm])/g, (_whole, digits, kind) => {
    const value = values.shift();
    if (kind === "s" || kind === "d") return String(value);
    if (kind === "f") return Number(value).toFixed(digits);
    let [rest, unit] = [Number(value), 0];
    while (rest >= 1000 && unit < UNITS.length - 1) [rest, unit] = [rest / 1000, unit + 1];
    return `${rest.toFixed(digits)} ${UNITS[unit]}`;
  });
};

const polled = [];
const modules = {
  dom: { content: (node, children) => node.replaceChildren(...[].concat(children)) },
  poll: { add: (look, seconds) => polled.push([look, seconds]) },
  rpc: {
    declare: ({ object, method, params = [], expect }) => {
      const [[member, otherwise]] = Object.entries(expect);
      return async (...values) => {
        const given = Object.fromEntries(params.map((name, at) => [name, values[at]]).filter(([, value]) => value != null));
        const answer = await (await fetch(`/ubus/${object}/${method}`, { method: "POST", body: JSON.stringify(given) })).json();
        return member === "" ? answer : (answer[member] ?? otherwise);
      };
    },
  },
  ui: {
    addNotification: (title, children) => document.body.append(E("div", { class: "notification" }, [children])),
    createHandlerFn: (self, handler) => () => handler.call(self),
  },
  uqr: { renderSVG },
  view: { extend: (members) => members },
};

const source = await (await fetch("/view.js")).text();
const wanted = [...source.matchAll(/^'require (\S+)';$/gm)].map((found) => found[1]);
for (const name of wanted) if (!(name in modules)) throw new Error(`LuCI's ${name} is not here`);
const shown = new Function(...wanted, source)(...wanted.map((name) => modules[name]));
document.body.append(shown.render(await shown.load()));
globalThis.pollNow = () => Promise.all(polled.map(([look]) => look()));
