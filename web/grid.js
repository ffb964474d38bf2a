/** The grid that frames were drawn in: where each lies, the path through them, and which of them ReCraft holds. */
import { lastOutput } from "./panel.js";
import { widget, wired } from "./shared.js";

/** Types of wires that lead from frames up to the models that drew them, nearest to the sampling first. */
const CARRIERS = ["GUIDER", "MODEL", "LATENT", "IMAGE", "*"];
const ALWAYS = 0;

/** The grid of the `index`th of a node's `count` sheets; null where it can't be known. */
export function gridOf(node, sheet, index, count) {
  if (sheet.rows) return new Grid(sheet.rows, sheet.cols, heldFrames(node, sheet.frames, index, count));
  const split = [...upstream(node)].find(({ comfyClass }) => comfyClass === "MakeAnythingSplitFrames");
  const [whole, ...more] = (split && lastOutput(split, "makeanything_frames")) ?? [];
  if (whole?.frames !== sheet.frames || more.length) return null;
  return new Grid(whole.rows, whole.cols, heldFrames(split, sheet.frames));
}

class Grid {
  constructor(rows, cols, held) {
    Object.assign(this, { rows, cols, held });
    /** [row, column] of each frame; rows alternate direction. */
    this.cells = Array.from({ length: rows * cols }, (_, frame) => {
      const [row, step] = [Math.floor(frame / cols), frame % cols];
      return [row, row % 2 ? cols - 1 - step : step];
    });
  }

  /** An SVG of the path from the first frame to the last, for frames of this size; `current` is marked. */
  draw(width, height, current) {
    const unit = Math.min(width, height) / 100;
    const points = this.cells.map(([row, col]) => [(col + 0.5) * width, (row + 0.85) * height]);
    const dots = points.map(
      ([x, y], frame) =>
        `<circle class="${frame === current ? "current" : ""}" cx="${x}" cy="${y}" r="${9 * unit}"/>` +
        `<text x="${x}" y="${y}" font-size="${11 * unit}">${frame + 1}</text>`,
    );
    const frames = this.held.map((frame) => {
      const [x, y] = [this.cells[frame][1] * width, this.cells[frame][0] * height].map((edge) => edge + 2 * unit);
      const size = `width="${width - 4 * unit}" height="${height - 4 * unit}"`;
      return `<rect x="${x}" y="${y}" ${size} stroke-width="${4 * unit}"/>`;
    });
    // Twice, so that it stands out from light and dark frames.
    const path = [5, 2].map(
      (thickness) => `<polyline points="${points.join(" ")}" stroke-width="${thickness * unit}"/>`,
    );
    const parts = [...frames, ...path, ...dots].join("");
    return `<svg viewBox="0 0 ${this.cols * width} ${this.rows * height}">${parts}</svg>`;
  }
}

/** Frames, from 0, that ReCraft nodes above a node hold in a grid of so many. */
function heldFrames(node, frames, index = 0, count = 1) {
  const recrafts = [...upstream(node, index, count)].filter(
    (found) => found.comfyClass === "MakeAnythingReCraft" && found.mode === ALWAYS && !wired(found, "frame"),
  );
  const held = recrafts.map((found) => (widget(found, "frame").value || frames) - 1);
  return [...new Set(held)].filter((frame) => frame < frames).sort((a, b) => a - b);
}

/** A node and those above it, each the source of the one before. */
function* upstream(node, index = 0, count = 1) {
  const seen = new Set();
  for (let found = node; found && !seen.has(found); found = source(found, index, count)) {
    seen.add(found);
    yield found;
  }
}

/** The node that what passes through `node` comes from; of `count` pictures joined, the `index`th. */
function source(node, index, count) {
  const inputs = (node.inputs ?? []).map(({ type, link }, slot) => ({ type, link, slot }));
  const linked = inputs.filter(({ link }) => link != null);
  const carrier = CARRIERS.find((type) => linked.some((input) => input.type === type));
  const found = linked.filter(({ type }) => type === carrier);
  if (carrier === "IMAGE" && found.length > 1) return found.length === count && node.getInputNode(found[index].slot);
  return found.length && node.getInputNode(found[0].slot);
}
