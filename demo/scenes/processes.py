"""How each process is drawn: functions (scene, frames, size) to uint8 frames (frames, size, size, 3) in time order.

Textures lie on lattices fixed to the cell, not to the subject: a brick wall looks the same wherever its subject is.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from . import strokes, subjects
from .canvas import (
    COLOURS,
    GROUND,
    INK,
    OVER,
    WHITE,
    Scene,
    axes,
    blocks,
    edges,
    lit,
    mix,
    pace,
    paint,
    place,
    reduced,
    reveal,
    signed_distance,
    stage,
)


def bricks(scene: Scene, frames: int, size: int) -> np.ndarray:
    """Bricks laid in rows from the ground up, each row from left to right."""
    side = size * OVER
    subject = subjects.find(scene.subject)
    values = subject.label(place(scene, GROUND), side)
    x, y = axes(side)
    up = (GROUND - y) * 15
    row = np.maximum(np.floor(up), 0)
    along = x * 8 + 0.5 * (row % 2)
    column = np.floor(along)
    joint = (up - row < 0.17) | (along - column < 0.1)
    shade = ((row * 5 + column * 3) % 4).astype(int)
    kinds = subject.tones(scene.colour)[:, None] * np.array([1.06, 0.97, 1.0, 0.91])[None, :, None]
    palette = np.concatenate([kinds.reshape(-1, 3), mix(subject.body(scene.colour), WHITE, 0.55)[None]])
    picture = paint(np.where(joint, len(palette) - 1, values.astype(int) * 4 + shade), palette)
    return reveal(stage("Bricks", side), [(picture, pace((row * 16 + column).astype(int), values > 0))], frames)


def line(scene: Scene, frames: int, size: int) -> np.ndarray:
    """A pen goes round the outline clockwise, then round the details."""
    side = size * OVER
    subject = subjects.find(scene.subject)
    values = subject.label(place(scene), side)
    body = values > 0
    outline, inner = edges(body, side * 0.045), edges(values, side * 0.03)
    x, y = axes(side)
    turn = np.arctan2(x - x[body].mean(), y[body].mean() - y) / (2 * np.pi)
    order = ((turn % 1) * 255).astype(int) + np.where(outline, 0, 256)
    picture = np.broadcast_to(subject.body(scene.colour).astype(np.uint8), (side, side, 3))
    return reveal(stage("Line drawing", side), [(picture, pace(order, outline | inner))], frames)


def colouring(scene: Scene, frames: int, size: int) -> np.ndarray:
    """An ink outline, coloured in from the upper left to the lower right."""
    side = size * OVER
    subject = subjects.find(scene.subject)
    values = subject.label(place(scene), side)
    x, y = axes(side)
    stroke = np.sin((x - y) * 2 * np.pi * 9)
    order = ((x + y + 0.06 * stroke + 0.1) * 200).astype(int)
    tones = subject.tones(scene.colour)
    kinds = np.stack([tones, tones * 0.5 + 0.5 * mix(subject.body(scene.colour), WHITE, 0.3)], axis=1)
    picture = paint(values.astype(int) * 2 + (stroke > 0.55), kinds.reshape(-1, 3))
    outline = edges(values, side * 0.03)
    ink = np.broadcast_to(np.array(INK, np.uint8), (side, side, 3))
    layers = [(picture, pace(order, values > 0, 0.04)), (ink, np.where(outline, 0, np.float32(np.inf)))]
    return reveal(stage("Colouring", side), layers, frames)


def mosaic(scene: Scene, frames: int, size: int) -> np.ndarray:
    """Tiles set from the middle outwards."""
    side, tiles = size * OVER, 20
    cx, cy, r = place(scene)
    snapped = (np.floor(cx * tiles) + 0.5) / tiles, (np.floor(cy * tiles) + 0.5) / tiles  # symmetric shapes stay so
    subject = subjects.find(scene.subject)
    values = subject.label((*snapped, r), tiles * 12)
    tones = subject.tones(scene.colour)
    split = values.reshape(tiles, 12, tiles, 12)
    # Details count for more than what they lie on.
    weights = np.where(np.isin(np.arange(len(tones)), (0, subject.main)), 1, 1.4)
    tile = np.argmax([(split == tone).mean(axis=(1, 3)) * weight for tone, weight in enumerate(weights)], axis=0)
    x, y = axes(side)
    column, row = (x * tiles).astype(int), (y * tiles).astype(int)
    gap = np.maximum(abs(x * tiles - column - 0.5), abs(y * tiles - row - 0.5)) > 0.43
    shade = (column * 3 + row * 5) % 4
    kinds = tones[:, None] * np.array([1.05, 0.94, 1.0, 0.88])[None, :, None]
    centre = np.argwhere(tile > 0).mean(axis=0)
    order = (np.hypot(row - centre[0], column - centre[1]) * 8).astype(int)
    picture = paint(tile[row, column] * 4 + shade, kinds.reshape(-1, 3))
    return reveal(stage("Mosaic", side), [(picture, pace(order, (tile[row, column] > 0) & ~gap))], frames)


def growing(scene: Scene, frames: int, size: int) -> np.ndarray:
    """Wood grows from the ground, then leaves come out."""
    side = size * OVER
    wood, leaves = strokes.tree(scene.subject)
    where = place(scene, GROUND)
    grown, _ = strokes.dots(wood, where, side)
    leafed, top = strokes.dots(leaves, where, side)
    body = np.array(COLOURS[scene.colour], float)
    palette = np.stack([body, body, body * 0.856, mix(body, WHITE, 0.252)])
    bark = np.broadcast_to(np.array((122, 88, 66), np.uint8), (side, side, 3))
    layers = [(bark, pace(grown, grown > 0, 0, 0.5)), (paint(top % 4, palette), pace(leafed, leafed > 0, 0.4))]
    return reveal(stage("Tree", side), layers, frames)


def rings(scene: Scene, frames: int, size: int) -> np.ndarray:
    """Contour bands from the innermost to the edge."""
    side = size * OVER
    subject = subjects.find(scene.subject)
    values = subject.label(place(scene), side)
    depth = signed_distance(values, side)
    inside = values > 0
    band = np.clip((depth / 0.036).astype(int), 0, 30)
    body = subject.body(scene.colour)
    palette = np.stack([body, mix(body, WHITE, 0.8), body, body * 0.808])
    x, y = axes(side)
    off = np.hypot(x - x[inside].mean(), y - y[inside].mean())  # parts equally deep do not all come at once
    order = ((depth.max() - depth) * 3000 + off * 300).astype(int)
    return reveal(stage("Rings", side), [(paint(band % 4, palette), pace(order, inside))], frames)


def painting(scene: Scene, frames: int, size: int) -> np.ndarray:
    """A quadtree: the blocks with the largest error are split first, so the distance to the end only falls."""
    side = size * OVER
    subject = subjects.find(scene.subject)
    values = subject.label(place(scene, 0.88), side)
    canvas = np.where((values > 0)[..., None], paint(values, subject.tones(scene.colour)), stage("Painting", side))
    final = reduced(canvas)
    levels = [blocks(final.astype(float), n) for n in (4, 8, 16, 32) if n < size]
    finer = [*(mean for mean, _ in levels[1:]), final.astype(float)]
    errors = np.sort(np.concatenate([np.unique(error) for _, error in levels]))[::-1]
    errors = errors[errors > 1]
    result = []
    for t in np.arange(1, frames) / frames:
        limit = errors[min(int(len(errors) * t**3.3 + 18 * t), len(errors) - 1)] if len(errors) else 0
        frame = levels[0][0]
        for (_, error), split in zip(levels, finer, strict=True):
            frame = np.where((error > limit)[..., None], split, frame)
        result.append(frame.round().astype(np.uint8))
    return np.stack([*result, final])


def lettering(scene: Scene, frames: int, size: int) -> np.ndarray:
    """A letter written stroke by stroke on ruled paper."""
    side = size * OVER
    cx, cy, r = place(scene)
    first, _ = strokes.dots(strokes.letter(scene.subject), (cx, cy, r * 0.9), side)
    picture = np.broadcast_to(np.array(COLOURS[scene.colour], np.uint8), (side, side, 3))
    return reveal(stage("Lettering", side), [(picture, pace(first, first > 0))], frames)


def clay(scene: Scene, frames: int, size: int) -> np.ndarray:
    """A ball of the subject's area becomes the subject; details come out last."""
    cx, cy, r = place(scene, GROUND)
    subject = subjects.find(scene.subject)
    values = subject.label((cx, cy, r), size * OVER)
    shape = signed_distance(values, size)
    x, y = axes(size)
    radius = np.sqrt((values > 0).mean() / np.pi)
    ball = radius - np.hypot(x - cx, y - (GROUND - radius))
    detail = reduced(paint(np.where(values > 0, values, subject.main), subject.tones(scene.colour))).astype(float)
    body = subject.body(scene.colour)
    table = reduced(stage("Clay", size * OVER)).astype(float)
    result = []
    for t in np.arange(1, frames + 1) / frames:
        grown, marked = min(t * 9 / 8, 1), np.clip(t * 3 - 2, 0, 1)
        field = (1 - grown) * ball + grown * shape
        cover = np.clip(field * size + 0.5, 0, 1)[..., None]
        skin = ((1 - marked) * body + marked * detail) * lit(field, 0.11)[..., None]
        result.append(np.clip(table * (1 - cover) + skin * cover, 0, 255).round().astype(np.uint8))
    return np.stack(result)


def carving(scene: Scene, frames: int, size: int) -> np.ndarray:
    """Chips fall from a block, the outermost first; then the body is polished from the top down."""
    side = size * OVER
    cx, cy, r = place(scene, GROUND)
    subject = subjects.find(scene.subject)
    values = subject.label((cx, cy, r), side)
    field = signed_distance(values, size)
    x, y = axes(side)
    body = values > 0
    block = (abs(x - cx) < r * 1.08) & (y > cy - r * 1.1) & (y < GROUND) | body
    u, v = np.floor((x + y) * 9), np.floor((x - y) * 9)  # diamonds, centred on ((u + v + 1) / 18, (u - v) / 18)
    row, column = (np.clip(p * size / 18, 0, size - 1).astype(np.intp) for p in (u - v, u + v + 1))
    chip = ((1.5 + field[row, column]) * 400).astype(np.intp)
    raw = mix(subject.body(scene.colour), (150, 140, 130), 0.35) * np.array([[1.07], [1.0], [0.93]])
    room = stage("Carving", side)
    start = np.where(block[..., None], paint(((u + 2 * v) % 3).astype(np.intp), raw), room)
    light = np.asarray(Image.fromarray(lit(field, 0.1).astype(np.float32)).resize((side, side)))
    done = np.clip(subject.tones(scene.colour).astype(np.float32)[values] * light[..., None], 0, 255).astype(np.uint8)
    arrival = np.minimum(pace(chip, block & ~body, 0, 0.72), pace((y * 500).astype(np.intp), body, 0.6))
    return reveal(start, [(np.where(body[..., None], done, room), arrival)], frames)


def emoji(scene: Scene, frames: int, size: int) -> np.ndarray:
    """Part by part, each spreading from its middle; what is large takes longer."""
    side = size * OVER
    subject = subjects.find(scene.subject)
    parts = subject.parts(place(scene), side)
    efforts = np.sqrt([part.mean() for part in parts]) + 0.05
    ends = np.cumsum(efforts) / efforts.sum()
    x, y = axes(side)
    layers = []
    for part, colour, start, stop in zip(parts, subject.painted(scene.colour), [0, *ends], ends, strict=False):
        if part.any():
            off = np.hypot(x - x[part].mean(), y - y[part].mean())
            picture = np.broadcast_to(colour.round().clip(0, 255).astype(np.uint8), (side, side, 3))
            layers.append((picture, pace((off * 400).astype(np.intp), part, start, stop)))
    return reveal(stage("Emoji", side), layers, frames)
