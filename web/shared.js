/** What the extension's files share: widgets of a node, and the nodes of a graph. */
import { app } from "../../scripts/app.js";

/** The node's widget of this name, if it has one. */
export const widget = (node, name) => node.widgets?.find((found) => found.name === name);

/** Whether the widget's value comes in by a wire. */
export const wired = (node, name) =>
  node.inputs?.some((input) => input.widget?.name === name && input.link != null) ?? false;

/** Sets a widget as a user would: both renderers notice, and so do the widget's own callbacks. */
export function set(node, target, value) {
  target.value = value;
  target.callback?.(value, app.canvas, node);
}

/** Runs `action`, with the same arguments, after the method `name` of `object`, which may not have one yet. */
export function after(object, name, action) {
  const original = object[name];
  object[name] = function (...args) {
    const result = original?.apply(this, args);
    action(...args);
    return result;
  };
}

/** Every node of a graph and of the subgraphs in it. */
export function* nodesIn(graph) {
  for (const node of graph?.nodes ?? []) {
    yield node;
    yield* nodesIn(node.subgraph);
  }
}

/** A new element with these properties. */
export const element = (tag, properties) => Object.assign(document.createElement(tag), properties);

/** Adds style rules to the page, and no element to what other packs share. */
export function addStyles(css) {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  document.adoptedStyleSheets.push(sheet);
}
