// How hosts answer wrongly when they are asked for a part of a file. Each writes an answer and returns true, or
// leaves it to the honest host.
import { gzipSync } from "node:zlib";

function send(response, { headers }, status, more, body) {
  const always = { "Content-Type": "application/octet-stream", "Cache-Control": "no-store" };
  response.writeHead(status, { ...always, "Content-Length": body.length, ...headers, ...more });
  response.end(body);
  return true;
}

const range = (from, last, all) => ({ "Content-Range": `bytes ${from}-${last}/${all}` });

// Only a part is lied about.
const part = (answer) => (response, asked) => {
  if (!asked.ranged) return false;
  const { all, from, last } = asked;
  return answer(response, asked, all.subarray(from, last + 1), range(from, last, all.length));
};

// A part of the packed file, as GitHub Pages sends it to Firefox.
function packed(response, asked) {
  const { all, from, last, ranged } = asked;
  const bytes = gzipSync(all);
  const encoding = { "Content-Encoding": "gzip" };
  if (!ranged) return send(response, asked, 200, encoding, bytes);
  if (from >= bytes.length) return send(response, asked, 416, {}, Buffer.alloc(0));
  const end = Math.min(last, bytes.length - 1);
  const more = { ...encoding, ...range(from, end, bytes.length) };
  return send(response, asked, 206, more, bytes.subarray(from, end + 1));
}

export const LIES = {
  packed: (response, asked) => /gzip/.test(asked.accepts) && packed(response, asked),
  "packed for everybody": packed,
  empty: part((response, asked, _, where) => send(response, asked, 206, where, Buffer.alloc(0))),
  "another start": part((response, asked, bytes) =>
    send(response, asked, 206, range(0, bytes.length - 1, asked.all.length), asked.all.subarray(0, bytes.length)),
  ),
  "the whole file": part((response, asked) =>
    send(response, asked, 206, range(0, asked.all.length - 1, asked.all.length), asked.all),
  ),
  "no such part": part((response, asked) => send(response, asked, 416, {}, Buffer.alloc(0))),
  "half of it": part((response, asked, bytes) => {
    const half = bytes.subarray(0, bytes.length >> 1);
    return send(response, asked, 206, range(asked.from, asked.from + half.length - 1, asked.all.length), half);
  }),
  "one bit flipped": part((response, asked, bytes, where) => {
    const flipped = Buffer.from(bytes);
    flipped[flipped.length >> 1] ^= 16;
    return send(response, asked, 206, where, flipped);
  }),
  pieces: part((response, asked, bytes) => {
    const head = `--X\r\nContent-Range: bytes ${asked.from}-${asked.last}/${asked.all.length}\r\n\r\n`;
    const body = Buffer.concat([Buffer.from(head), bytes, Buffer.from("\r\n--X--\r\n")]);
    return send(response, asked, 206, { "Content-Type": "multipart/byteranges; boundary=X" }, body);
  }),
  "busy once": part((response, asked) => {
    if (asked.host.wasBusy) return false;
    asked.host.wasBusy = true;
    return send(response, asked, 503, {}, Buffer.from("busy"));
  }),
};
