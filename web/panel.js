/** A panel of the pack's own in a node, in both of the frontend's renderers; it is never saved. */
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { after } from "./shared.js";

let panels = 0;

/** Adds a DOM element of at least `height` pixels as the node's last widget, and makes room for it. */
export function addPanel(node, name, panel, height) {
  for (const type of ["pointerdown", "pointermove", "pointerup"]) {
    panel.addEventListener(type, (event) => event.stopPropagation());
  }
  panel.addEventListener("wheel", zoom);
  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => height, getValue: () => "" };
  // Each panel has its own name, since Vue nodes keep showing a panel of the same name of a node that was undone.
  const widget = node.addDOMWidget(`${name}_${++panels}`, name, panel, options);
  widget.serialize = false;
  const [width, least] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], least)]);
  return widget;
}

/** In the classic renderer panels lie over the canvas, which then does not hear the wheel. */
function zoom(event) {
  if (event.currentTarget.closest("[data-node-id]")) return;
  event.preventDefault();
  app.canvas.canvas.dispatchEvent(new WheelEvent("wheel", event));
}

/** Calls `show` with what the server lists under `key` when the node has run. */
export function onOutput(node, key, show) {
  after(node, "onExecuted", (output) => output?.[key] && show(output[key]));
}

/** What the frontend still has of a node's last run under `key`, such as after a change of tabs. */
export function lastOutput(node, key) {
  const inSubgraph = node.graph && !node.graph.isRootGraph;
  return app.nodeOutputs?.[inSubgraph ? `${node.graph.id}:${node.id}` : node.id]?.[key];
}

/** The address of a file of the server. */
export function viewURL({ filename, subfolder = "", type }) {
  // Temporary files get their names again after a restart.
  const query = new URLSearchParams({ filename, subfolder, type, rand: String(Math.random()) });
  return api.apiURL(`/view?${query}`);
}
