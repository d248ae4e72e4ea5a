// What networks consist of. Maps are channels-last, four channels a value; where the channels are no
// multiple of four, what the last value holds beyond them is finite and meets weights of zero.

struct Shape {
    height: u32,
    width: u32,
    // Values of a pixel of the first input.
    fours: u32,
    channels: u32,
    out_height: u32,
    out_width: u32,
    out_fours: u32,
    out_channels: u32,
    // Padding of a convolution's input; what else a step has to know.
    top: u32,
    left: u32,
    // Values of a pixel of the second input.
    other_fours: u32,
    // Pixels of the second input.
    other_pixels: u32,
}

struct Run {
    pictures: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> other: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<Weight>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> shape: Shape;
@group(0) @binding(6) var<uniform> run: Run;
@group(0) @binding(7) var<storage, read> third: array<vec4<f32>>;

// As `Activation` counts them.
override ACTIVATION: u32 = 0u;
// Whether the second input is added before the activation.
override RESIDUAL: bool = false;
override KERNEL: u32 = 1u;
override STRIDE: u32 = 1u;
// Sigmoid, hard sigmoid, hyperbolic tangent.
override GATE: u32 = 0u;
override MAXIMUM: bool = false;

const NOTHING = vec4<f32>(0.0);

fn sigmoid(value: vec4<f32>) -> vec4<f32> {
    // Kept where the exponential is finite.
    return 1.0 / (1.0 + exp(-clamp(value, vec4(-80.0), vec4(80.0))));
}

// As `activation.rs` says, of a value's square.
fn gelu_factor(s: vec4<f32>) -> vec4<f32> {
    return 1.5957686 + s * (0.0726683 + s * (-6.605346e-5 + s * (-1.1054676e-4
        + s * (7.94814e-6 + s * (-2.675663e-7 + s * 3.627852e-9)))));
}

fn activated(value: vec4<f32>) -> vec4<f32> {
    switch ACTIVATION {
        case 1u: { return max(value, NOTHING); }
        case 2u: { return value * clamp(value * (1.0 / 6.0) + 0.5, NOTHING, vec4(1.0)); }
        case 3u: { return clamp(value, NOTHING, vec4(6.0)); }
        case 4u: { return value * sigmoid(value); }
        case 5u: { return value * sigmoid(value * gelu_factor(min(value * value, vec4(36.0)))); }
        case 6u: { return value * sigmoid(1.702 * value); }
        case 7u: { return value * sigmoid(value * (1.5957691 + 0.07135482 * value * value)); }
        default: { return value; }
    }
}

// The place among all invocations; dispatches of many workgroups have two dimensions.
fn place(id: vec3<u32>, groups: vec3<u32>) -> u32 {
    return id.x + id.y * groups.x * 64u;
}

fn out_pixels() -> u32 {
    return shape.out_height * shape.out_width;
}

fn store(pixel: u32, column: u32, sum: vec4<f32>) {
    let at = pixel * shape.out_fours + column;
    if RESIDUAL {
        out[at] = activated(sum + other[at]);
    } else {
        out[at] = activated(sum);
    }
}

// The weights between four inputs and four outputs; `at` is the first input's.
fn block(at: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        weights(weight[at]),
        weights(weight[at + shape.out_fours]),
        weights(weight[at + 2u * shape.out_fours]),
        weights(weight[at + 3u * shape.out_fours]),
    );
}

// Sums of four pixels and twice four channels. Named one by one: what is indexed may leave the registers.
struct Tile {
    a0: vec4<f32>,
    a1: vec4<f32>,
    a2: vec4<f32>,
    a3: vec4<f32>,
    b0: vec4<f32>,
    b1: vec4<f32>,
    b2: vec4<f32>,
    b3: vec4<f32>,
}

// Where a tile lies: its first pixel and the last of all, its first column and how far off the second is.
struct Spot {
    first: u32,
    last: u32,
    a: u32,
    b: u32,
    apart: u32,
}

fn spot(index: u32) -> Spot {
    let apart = (shape.out_fours + 1u) / 2u;
    let a = index % apart;
    let last = out_pixels() * run.pictures - 1u;
    return Spot(index / apart * 4u, last, a, min(a + apart, shape.out_fours - 1u), apart);
}

fn begin(spot: Spot) -> Tile {
    let a = bias[spot.a];
    let b = bias[spot.b];
    return Tile(a, a, a, a, b, b, b, b);
}

// A tile with four more inputs of each pixel; `row` is the first one's weights.
fn gather(
    tile: Tile,
    spot: Spot,
    row: u32,
    x0: vec4<f32>,
    x1: vec4<f32>,
    x2: vec4<f32>,
    x3: vec4<f32>,
) -> Tile {
    let a = block(row + spot.a);
    let b = block(row + spot.b);
    return Tile(
        tile.a0 + a * x0,
        tile.a1 + a * x1,
        tile.a2 + a * x2,
        tile.a3 + a * x3,
        tile.b0 + b * x0,
        tile.b1 + b * x1,
        tile.b2 + b * x2,
        tile.b3 + b * x3,
    );
}

// What lies behind the last pixel or column was computed for nothing.
fn keep(spot: Spot, pixel: u32, a: vec4<f32>, b: vec4<f32>) {
    if spot.first + pixel > spot.last {
        return;
    }
    store(spot.first + pixel, spot.a, a);
    if spot.a + spot.apart < shape.out_fours {
        store(spot.first + pixel, spot.b, b);
    }
}

fn finish(tile: Tile, spot: Spot) {
    keep(spot, 0u, tile.a0, tile.b0);
    keep(spot, 1u, tile.a1, tile.b1);
    keep(spot, 2u, tile.a2, tile.b2);
    keep(spot, 3u, tile.a3, tile.b3);
}

// 1×1 convolution, a tile an invocation. Weights: [input, output].
@compute @workgroup_size(64)
fn product(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let spot = spot(place(id, groups));
    if spot.first > spot.last {
        return;
    }
    let p0 = spot.first * shape.fours;
    let p1 = min(spot.first + 1u, spot.last) * shape.fours;
    let p2 = min(spot.first + 2u, spot.last) * shape.fours;
    let p3 = min(spot.first + 3u, spot.last) * shape.fours;
    var tile = begin(spot);
    var row = 0u;
    for (var c = 0u; c < shape.fours; c++) {
        tile = gather(tile, spot, row, x[p0 + c], x[p1 + c], x[p2 + c], x[p3 + c]);
        row += 4u * shape.out_fours;
    }
    finish(tile, spot);
}

var<workgroup> parts: array<vec4<f32>, 64>;

// 1×1 convolution of one pixel a picture: eight columns a workgroup, eight invocations a column.
@compute @workgroup_size(64)
fn vector_product(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = group.x * 8u + lane % 8u;
    let safe = min(column, shape.out_fours - 1u);
    var sum = NOTHING;
    for (var c = lane / 8u; c < shape.fours; c += 8u) {
        sum += block(4u * c * shape.out_fours + safe) * x[group.y * shape.fours + c];
    }
    parts[lane] = sum;
    workgroupBarrier();
    if lane < 8u && column < shape.out_fours {
        sum = bias[column];
        for (var part = 0u; part < 64u; part += 8u) {
            sum += parts[part + lane];
        }
        store(group.y, column, sum);
    }
}

// Where a window starts: the picture's first pixel, and its line and column, which padding may
// push out of the picture.
struct Corner {
    base: u32,
    y: i32,
    x: i32,
}

fn corner(pixel: u32) -> Corner {
    let inside = pixel % out_pixels();
    let base = pixel / out_pixels() * shape.height * shape.width;
    let y = i32(inside / shape.out_width * STRIDE) - i32(shape.top);
    return Corner(base, y, i32(inside % shape.out_width * STRIDE) - i32(shape.left));
}

struct Tap {
    at: u32,
    there: bool,
}

// The input under a kernel's tap.
fn tap(corner: Corner, ky: u32, kx: u32) -> Tap {
    let y = corner.y + i32(ky);
    let column = corner.x + i32(kx);
    let there = y >= 0 && y < i32(shape.height) && column >= 0 && column < i32(shape.width);
    let pixel = corner.base + u32(max(y, 0)) * shape.width + u32(max(column, 0));
    return Tap(select(0u, pixel * shape.fours, there), there);
}

// Dense convolution, a tile an invocation. Weights: [line, column, input, output].
@compute @workgroup_size(64)
fn windows(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let spot = spot(place(id, groups));
    if spot.first > spot.last {
        return;
    }
    let c0 = corner(spot.first);
    let c1 = corner(min(spot.first + 1u, spot.last));
    let c2 = corner(min(spot.first + 2u, spot.last));
    let c3 = corner(min(spot.first + 3u, spot.last));
    var tile = begin(spot);
    var row = 0u;
    for (var ky = 0u; ky < KERNEL; ky++) {
        for (var kx = 0u; kx < KERNEL; kx++) {
            let t0 = tap(c0, ky, kx);
            let t1 = tap(c1, ky, kx);
            let t2 = tap(c2, ky, kx);
            let t3 = tap(c3, ky, kx);
            for (var c = 0u; c < shape.fours; c++) {
                let x0 = select(NOTHING, x[t0.at + c], t0.there);
                let x1 = select(NOTHING, x[t1.at + c], t1.there);
                let x2 = select(NOTHING, x[t2.at + c], t2.there);
                let x3 = select(NOTHING, x[t3.at + c], t3.there);
                tile = gather(tile, spot, row, x0, x1, x2, x3);
                row += 4u * shape.out_fours;
            }
        }
    }
    finish(tile, spot);
}

// Depthwise convolution: four pixels of a line and four channels an invocation. Weights: [line,
// column, channel].
@compute @workgroup_size(64)
fn depthwise(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = place(id, groups);
    let tiles = (shape.out_width + 3u) / 4u;
    let column = index % shape.fours;
    let tile = index / shape.fours;
    let line = tile / tiles;
    if line >= shape.out_height * run.pictures {
        return;
    }
    let ox = tile % tiles * 4u;
    let first = line * shape.out_width + ox;
    let start = corner(first);
    var s0 = bias[column];
    var s1 = s0;
    var s2 = s0;
    var s3 = s0;
    for (var ky = 0u; ky < KERNEL; ky++) {
        for (var kx = 0u; kx < KERNEL; kx++) {
            let w = weights(weight[(ky * KERNEL + kx) * shape.fours + column]);
            let t0 = tap(start, ky, kx);
            let t1 = tap(start, ky, kx + STRIDE);
            let t2 = tap(start, ky, kx + 2u * STRIDE);
            let t3 = tap(start, ky, kx + 3u * STRIDE);
            s0 += w * select(NOTHING, x[t0.at + column], t0.there);
            s1 += w * select(NOTHING, x[t1.at + column], t1.there);
            s2 += w * select(NOTHING, x[t2.at + column], t2.there);
            s3 += w * select(NOTHING, x[t3.at + column], t3.there);
        }
    }
    store(first, column, s0);
    if ox + 1u < shape.out_width { store(first + 1u, column, s1); }
    if ox + 2u < shape.out_width { store(first + 2u, column, s2); }
    if ox + 3u < shape.out_width { store(first + 3u, column, s3); }
}

// One pixel from all of a picture, shared as in `vector_product`.
@compute @workgroup_size(64)
fn global_pool(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = group.x * 8u + lane % 8u;
    let safe = min(column, shape.fours - 1u);
    let pixels = shape.height * shape.width;
    let base = group.y * pixels * shape.fours + safe;
    var result = select(NOTHING, x[base], MAXIMUM);
    for (var pixel = lane / 8u; pixel < pixels; pixel += 8u) {
        let value = x[base + pixel * shape.fours];
        if MAXIMUM {
            result = max(result, value);
        } else {
            result += value;
        }
    }
    parts[lane] = result;
    workgroupBarrier();
    if lane < 8u && column < shape.fours {
        for (var part = 8u; part < 64u; part += 8u) {
            if MAXIMUM {
                result = max(result, parts[part + lane]);
            } else {
                result += parts[part + lane];
            }
        }
        out[group.y * shape.fours + column] = select(result / f32(pixels), result, MAXIMUM);
    }
}

// The product of a query's and a key's head.
fn alike(query: u32, key: u32, width: u32) -> f32 {
    var sum = NOTHING;
    for (var c = 0u; c < width; c++) {
        sum += x[query + c] * other[key + c];
    }
    return dot(sum, vec4(1.0));
}

var<workgroup> chances: array<f32, 64>;

// A head of a query a workgroup; `top` is how many heads there are. First the largest score and the sum of all
// exponentials, an invocation some keys; then their share in the mean, an invocation some keys of a column.
@compute @workgroup_size(64)
fn attend(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let width = shape.fours / shape.top;
    let picture = group.y / shape.top;
    let head = group.y % shape.top * width;
    let keys = shape.other_pixels;
    let query = (picture * out_pixels() + group.x) * shape.fours + head;
    let base = picture * keys * shape.fours + head;
    let factor = 1.0 / sqrt(4.0 * f32(width));
    var most = -3e38;
    var sum = 0.0;
    for (var key = lane; key < keys; key += 64u) {
        let score = alike(query, base + key * shape.fours, width) * factor;
        let larger = max(most, score);
        sum = sum * exp(most - larger) + exp(score - larger);
        most = larger;
    }
    parts[lane] = vec4(most, sum, 0.0, 0.0);
    workgroupBarrier();
    var total = 0.0;
    for (var part = 0u; part < 64u; part++) {
        most = max(most, parts[part].x);
    }
    for (var part = 0u; part < 64u; part++) {
        total += parts[part].y * exp(parts[part].x - most);
    }
    workgroupBarrier();
    let rows = 64u / width;
    let row = lane / width;
    let column = lane % width;
    var mean = NOTHING;
    for (var start = 0u; start < keys; start += 64u) {
        let key = min(start + lane, keys - 1u);
        chances[lane] = exp(alike(query, base + key * shape.fours, width) * factor - most) / total;
        workgroupBarrier();
        if row < rows {
            for (var at = row; at < min(64u, keys - start); at += rows) {
                mean += chances[at] * third[base + (start + at) * shape.fours + column];
            }
        }
        workgroupBarrier();
    }
    parts[lane] = mean;
    workgroupBarrier();
    if row == 0u {
        for (var part = 1u; part < rows; part++) {
            mean += parts[part * width + lane];
        }
        out[(picture * out_pixels() + group.x) * shape.out_fours + head + lane] = mean;
    }
}

// From here on an invocation makes one value of the output.

struct Here {
    there: bool,
    at: u32,
    picture: u32,
    pixel: u32,
    column: u32,
}

fn here(id: vec3<u32>, groups: vec3<u32>) -> Here {
    let at = place(id, groups);
    let pixel = at / shape.out_fours;
    let picture = pixel / out_pixels();
    let inside = pixel % out_pixels();
    return Here(picture < run.pictures, at, picture, inside, at % shape.out_fours);
}

@compute @workgroup_size(64)
fn affine(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if here.there {
        out[here.at] = x[here.at] * weights(weight[here.column]) + bias[here.column];
    }
}

@compute @workgroup_size(64)
fn gate(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if here.there {
        let value = x[here.at];
        switch GATE {
            case 0u: { out[here.at] = sigmoid(value); }
            case 1u: { out[here.at] = clamp(value * (1.0 / 6.0) + 0.5, NOTHING, vec4(1.0)); }
            default: { out[here.at] = tanh(clamp(value, vec4(-20.0), vec4(20.0))); }
        }
    }
}

@compute @workgroup_size(64)
fn activate(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if here.there {
        out[here.at] = activated(x[here.at]);
    }
}

@compute @workgroup_size(64)
fn scale(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if here.there {
        out[here.at] = x[here.at] * other[here.picture * shape.out_fours + here.column];
    }
}

@compute @workgroup_size(64)
fn add(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if here.there {
        out[here.at] = activated(x[here.at] + other[here.at]);
    }
}

@compute @workgroup_size(64)
fn multiply(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if here.there {
        out[here.at] = x[here.at] * other[here.at];
    }
}

// `top` learned pixels, then those of the input; with `left` something is added to them.
@compute @workgroup_size(64)
fn tokens(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if !here.there {
        return;
    }
    if here.pixel < shape.top {
        out[here.at] = weights(weight[here.pixel * shape.out_fours + here.column]);
        return;
    }
    let pixel = here.pixel - shape.top;
    var value = x[(here.picture * shape.height * shape.width + pixel) * shape.fours + here.column];
    if shape.left != 0u {
        value += bias[pixel * shape.fours + here.column];
    }
    out[here.at] = value;
}

// Pixels from the one of number `top` on.
@compute @workgroup_size(64)
fn pixels(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if here.there {
        let pixel = here.picture * shape.height * shape.width + shape.top + here.pixel;
        out[here.at] = x[pixel * shape.fours + here.column];
    }
}

// Pairs of channels turned by the angles of a pixel; `top` pixels have none, `left` is how many values half a head has.
@compute @workgroup_size(64)
fn rotate(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if !here.there {
        return;
    }
    let value = x[here.at];
    if here.pixel < shape.top {
        out[here.at] = value;
        return;
    }
    let place = here.column % (2u * shape.left);
    let angle = (here.pixel - shape.top) * shape.left + place % shape.left;
    let cosine = weights(weight[angle]);
    let sine = bias[angle];
    if place < shape.left {
        out[here.at] = value * cosine - x[here.at + shape.left] * sine;
    } else {
        out[here.at] = value * cosine + x[here.at - shape.left] * sine;
    }
}

@compute @workgroup_size(64)
fn concatenate(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if !here.there {
        return;
    }
    let pixel = here.picture * out_pixels() + here.pixel;
    let left = pixel * shape.fours;
    let right = pixel * shape.other_fours;
    if shape.channels % 4u == 0u {
        if here.column < shape.fours {
            out[here.at] = x[left + here.column];
        } else {
            out[here.at] = other[right + here.column - shape.fours];
        }
        return;
    }
    var joined = NOTHING;
    for (var lane = 0u; lane < 4u; lane++) {
        let channel = here.column * 4u + lane;
        if channel < shape.channels {
            joined[lane] = x[left + channel / 4u][channel % 4u];
        } else if channel < shape.out_channels {
            let behind = channel - shape.channels;
            joined[lane] = other[right + behind / 4u][behind % 4u];
        }
    }
    out[here.at] = joined;
}

@compute @workgroup_size(64)
fn upsample(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if here.there {
        let y = here.pixel / shape.out_width / 2u;
        let column = here.pixel % shape.out_width / 2u;
        let source = (here.picture * shape.height + y) * shape.width + column;
        out[here.at] = x[source * shape.fours + here.column];
    }
}

@compute @workgroup_size(64)
fn max_pool(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if !here.there {
        return;
    }
    let y = here.pixel / shape.out_width * 2u;
    let column = here.pixel % shape.out_width * 2u;
    let base = here.picture * shape.height * shape.width;
    var most = x[(base + y * shape.width + column) * shape.fours + here.column];
    for (var iy = max(y, 1u) - 1u; iy < min(y + 2u, shape.height); iy++) {
        for (var ix = max(column, 1u) - 1u; ix < min(column + 2u, shape.width); ix++) {
            most = max(most, x[(base + iy * shape.width + ix) * shape.fours + here.column]);
        }
    }
    out[here.at] = most;
}

@compute @workgroup_size(64)
fn average_pool(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if !here.there {
        return;
    }
    let y = here.pixel / shape.out_width * 2u;
    let column = here.pixel % shape.out_width * 2u;
    let base = here.picture * shape.height * shape.width;
    let below = min(y + 2u, shape.height);
    let right = min(column + 2u, shape.width);
    var sum = NOTHING;
    for (var iy = y; iy < below; iy++) {
        for (var ix = column; ix < right; ix++) {
            sum += x[(base + iy * shape.width + ix) * shape.fours + here.column];
        }
    }
    out[here.at] = sum / f32((below - y) * (right - column));
}

override EPSILON: f32 = 0.0;
override MARGIN: f32 = 0.0;

@compute @workgroup_size(64)
fn aligned_logit(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if here.there {
        let pixel = here.picture * out_pixels() + here.pixel;
        let alignment = sigmoid(other[pixel * shape.other_fours].xxxx);
        let score = min(sqrt(sigmoid(x[here.at]) * alignment + EPSILON), vec4(1.0 - MARGIN));
        out[here.at] = log(score) - log(1.0 - score);
    }
}

// A pixel's value, with zeros behind its last channel.
fn own(column: u32, value: vec4<f32>) -> vec4<f32> {
    let lanes = 4u * column + vec4(0u, 1u, 2u, 3u);
    return select(NOTHING, value, lanes < vec4(shape.channels));
}

@compute @workgroup_size(64)
fn unit_length(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if !here.there {
        return;
    }
    let first = here.at - here.column;
    var squares = EPSILON;
    for (var c = 0u; c < shape.fours; c++) {
        let value = x[first + c];
        let inside = own(c, value);
        squares += dot(inside, inside);
    }
    out[here.at] = x[here.at] / sqrt(squares);
}

// A pixel an invocation: its channels brought to mean 0 and variance 1.
@compute @workgroup_size(64)
fn layer_norm(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let pixel = place(id, groups);
    if pixel >= out_pixels() * run.pictures {
        return;
    }
    let first = pixel * shape.fours;
    var sum = 0.0;
    for (var c = 0u; c < shape.fours; c++) {
        sum += dot(own(c, x[first + c]), vec4(1.0));
    }
    let mean = sum / f32(shape.channels);
    var squares = 0.0;
    for (var c = 0u; c < shape.fours; c++) {
        let apart = own(c, x[first + c] - mean);
        squares += dot(apart, apart);
    }
    let factor = 1.0 / sqrt(squares / f32(shape.channels) + EPSILON);
    for (var c = 0u; c < shape.fours; c++) {
        out[first + c] = (x[first + c] - mean) * factor * weights(weight[c]) + bias[c];
    }
}

// What one entry point alone is told; see `Constants`.
override WINDOW_A: u32 = 1u;
override WINDOW_B: u32 = 1u;
override WINDOW_C: u32 = 1u;
override WINDOW_D: u32 = 0u;
override COUNTED: bool = false;

// One pixel from each window, of which at least one pixel lies inside.
@compute @workgroup_size(64)
fn pool(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if !here.there {
        return;
    }
    let start_y = here.pixel / shape.out_width * STRIDE;
    let start_x = here.pixel % shape.out_width * WINDOW_B;
    let end_y = min(start_y + KERNEL, shape.top + shape.height + WINDOW_C);
    let end_x = min(start_x + WINDOW_A, shape.left + shape.width + WINDOW_D);
    let from_y = max(start_y, shape.top) - shape.top;
    let from_x = max(start_x, shape.left) - shape.left;
    let below = min(max(end_y, shape.top) - shape.top, shape.height);
    let right = min(max(end_x, shape.left) - shape.left, shape.width);
    let base = here.picture * shape.height * shape.width;
    var result = select(NOTHING, x[(base + from_y * shape.width + from_x) * shape.fours + here.column], MAXIMUM);
    for (var iy = from_y; iy < below; iy++) {
        for (var ix = from_x; ix < right; ix++) {
            let value = x[(base + iy * shape.width + ix) * shape.fours + here.column];
            if MAXIMUM {
                result = max(result, value);
            } else {
                result += value;
            }
        }
    }
    let inside = (below - from_y) * (right - from_x);
    let count = select(inside, (end_y - start_y) * (end_x - start_x), COUNTED);
    out[here.at] = select(result / f32(count), result, MAXIMUM);
}

// Channels in another order: the first one, how many, and the groups that they are taken from in turn.
@compute @workgroup_size(64)
fn pick(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if !here.there {
        return;
    }
    let base = (here.picture * out_pixels() + here.pixel) * shape.fours;
    var picked = NOTHING;
    for (var lane = 0u; lane < 4u; lane++) {
        let channel = here.column * 4u + lane;
        if channel < shape.out_channels {
            let source = WINDOW_A + channel % WINDOW_C * (WINDOW_B / WINDOW_C) + channel / WINDOW_C;
            picked[lane] = x[base + source / 4u][source % 4u];
        }
    }
    out[here.at] = picked;
}

@compute @workgroup_size(64)
fn enlarge(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let here = here(id, groups);
    if here.there {
        let y = here.pixel / shape.out_width / WINDOW_A;
        let column = here.pixel % shape.out_width / WINDOW_B;
        let source = (here.picture * shape.height + y) * shape.width + column;
        out[here.at] = x[source * shape.fours + here.column];
    }
}
