// Files of a ZIP archive, each unpacked only when it is asked for, so that an archive of any size needs no more memory
// than its list and one file. The studio reads with it in browsers, and the package's command in Node.

const END = 0x06054b50;
const END_64 = 0x06064b50;
const PLACE_OF_END_64 = 0x07064b50;
const LISTED = 0x02014b50;
const LOCAL = 0x04034b50;
// The longest comment behind the list.
const MOST_BEHIND = 65_557;
// Most bytes of a list, and of a file.
const MOST_LISTED = 256 << 20;
const MOST_BYTES = 256 << 20;
const UTF_8 = 1 << 11;
const ENCRYPTED = 1;
const STORED = 0;
const DEFLATED = 8;
const NONE = 0xffffffff;
// Of the system that packed it: one whose files have kinds, of which links are one.
const UNIX = 3;
const KIND = 0xf000;
const LINK = 0xa000;
// Bytes of a file's head in front of its name.
const HEAD = 30;
// What an archive has for bytes from 128 on where it does not say that names are UTF-8.
const CP437 =
  "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐" +
  "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function checksum(before, bytes) {
  let value = before;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  return value;
}

const view = async (file, from, to) => {
  if (from < 0 || to > file.size || from > to) throw new Error("an archive that was cut off");
  return new DataView(await file.slice(from, to).arrayBuffer());
};

const begins = async (file, place, mark) => (await view(file, place, place + 4)).getUint32(0, true) === mark;

const large = (data, at) => Number(data.getBigUint64(at, true));

/** Where the list is, how long, and how many bytes lie before the archive, which places do not count. */
async function listOf(file) {
  const from = Math.max(0, file.size - MOST_BEHIND);
  const data = await view(file, from, file.size);
  let at = data.byteLength - 22;
  while (at >= 0 && data.getUint32(at, true) !== END) at -= 1;
  if (at < 0) throw new Error("no archive");
  const list = { size: data.getUint32(at + 12, true), place: data.getUint32(at + 16, true), before: 0 };
  const isWide = at >= 20 && data.getUint32(at - 20, true) === PLACE_OF_END_64;
  if (!isWide) {
    // A program that unpacks the archive may lie in front of it.
    const before = from + at - list.size - list.place;
    if (before > 0 && (await begins(file, from + at - list.size, LISTED))) list.before = before;
    return list;
  }
  const end = large(data, at - 20 + 8);
  const wide = await view(file, end, end + 56);
  if (wide.getUint32(0, true) !== END_64) throw new Error("an archive that was cut off");
  return { size: large(wide, 40), place: large(wide, 48), before: 0 };
}

function nameOf(bytes, flags) {
  if (flags & UTF_8) return new TextDecoder().decode(bytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return Array.from(bytes, (byte) => (byte < 128 ? String.fromCharCode(byte) : CP437[byte - 128])).join("");
  }
}

// Sizes and place of a file that has more than 32 bits for them.
function widened(entry, extra) {
  for (let at = 0; at + 4 <= extra.byteLength; at += 4 + extra.getUint16(at + 2, true)) {
    if (extra.getUint16(at, true) !== 1) continue;
    let next = at + 4;
    for (const key of ["size", "packed", "place"]) {
      if (entry[key] !== NONE || next + 8 > extra.byteLength) continue;
      entry[key] = large(extra, next);
      next += 8;
    }
  }
  return entry;
}

/** A file's bytes, piece by piece. */
async function piecesOf(file, { isEncrypted, method, packed, place }, inflate) {
  if (isEncrypted) throw new Error("it is encrypted");
  const head = await view(file, place, place + HEAD);
  if (head.getUint32(0, true) !== LOCAL) throw new Error("an archive that was cut off");
  const from = place + HEAD + head.getUint16(26, true) + head.getUint16(28, true);
  if (from + packed > file.size) throw new Error("an archive that was cut off");
  const stream = file.slice(from, from + packed).stream();
  if (method === STORED) return stream.getReader();
  if (method !== DEFLATED) throw new Error("it is packed in another way");
  return stream.pipeThrough(inflate()).getReader();
}

/** The bytes of a file, whose length and checksum are those of the list. */
async function unpack(file, entry, inflate) {
  const { size, crc } = entry;
  if (size > MOST_BYTES) throw new Error("it is too large");
  const reader = await piecesOf(file, entry, inflate);
  const bytes = new Uint8Array(size);
  let [at, sum] = [0, NONE];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > size) {
      await reader.cancel();
      throw new Error("it is longer than the archive says");
    }
    bytes.set(value, at);
    at += value.length;
    sum = checksum(sum, value);
  }
  if (at !== size || (sum ^ NONE) >>> 0 !== crc) throw new Error("it is damaged");
  return bytes;
}

/** The first bytes of a file, some thousand at least where it has as many. */
async function beginningOf(file, entry, inflate) {
  const reader = await piecesOf(file, entry, inflate);
  const { value } = await reader.read();
  await reader.cancel().catch(() => {});
  return value ?? new Uint8Array();
}

// No program packs files that share bytes: a few could become any number of them.
function refuseShared(entries) {
  const sorted = [...entries].sort((one, other) => one.place - other.place);
  const isShared = ({ place, packed }, next) => next && place + HEAD + packed > next.place;
  if (sorted.some((entry, at) => isShared(entry, sorted[at + 1]))) {
    throw new Error("its entries share bytes, as no program packs them");
  }
}

/**
 * Files of an archive in the order of its list: of each `path`, `size` and `packed` in bytes, `isEncrypted`, `isLink`, and
 * `open` and `beginning`, which give the file and its first bytes. `file` has the size and the slices of a `Blob`;
 * `inflate` makes a stream that unpacks.
 */
export async function entriesOf(file, inflate = () => new DecompressionStream("deflate-raw")) {
  const { size, place, before } = await listOf(file);
  if (size > MOST_LISTED) throw new Error("the archive has too many files");
  const list = await view(file, before + place, before + place + size);
  const entries = [];
  for (let at = 0; at + 46 <= list.byteLength; ) {
    if (list.getUint32(at, true) !== LISTED) throw new Error("an archive that was cut off");
    const [name, extra, comment] = [28, 30, 32].map((field) => list.getUint16(at + field, true));
    const behind = at + 46 + name + extra + comment;
    if (behind > list.byteLength) throw new Error("an archive that was cut off");
    const flags = list.getUint16(at + 8, true);
    const path = nameOf(new Uint8Array(list.buffer, at + 46, name), flags);
    const isOfUnix = list.getUint16(at + 4, true) >> 8 === UNIX;
    const entry = widened(
      {
        path,
        method: list.getUint16(at + 10, true),
        crc: list.getUint32(at + 16, true),
        packed: list.getUint32(at + 20, true),
        size: list.getUint32(at + 24, true),
        place: list.getUint32(at + 42, true),
        isEncrypted: (flags & ENCRYPTED) !== 0,
        isLink: isOfUnix && ((list.getUint32(at + 38, true) >>> 16) & KIND) === LINK,
      },
      new DataView(list.buffer, at + 46 + name, extra),
    );
    entry.place += before;
    at = behind;
    if (path.endsWith("/")) continue;
    entries.push({
      ...entry,
      open: async () => new File([await unpack(file, entry, inflate)], path.split("/").at(-1)),
      beginning: () => beginningOf(file, entry, inflate),
    });
  }
  refuseShared(entries);
  return entries;
}
