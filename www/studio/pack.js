// A worker that packs the files of a site: to deflate all of them takes longer than a page may stand still.

// What gzip puts before and behind what deflate makes: a head, the CRC-32 and the length. A name would lengthen the head.
const [HEAD, TAIL] = [10, 8];
const FLAGS = 3;

// As it is where deflate does not make it shorter. What is packed is a blob: pages hand these on without a copy.
async function packed({ name, bytes }) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  const whole = new Uint8Array(await new Response(stream).arrayBuffer());
  if (whole[FLAGS]) throw new Error(`${name}: this browser packs files in another way`);
  const checksum = new DataView(whole.buffer).getUint32(whole.length - TAIL, true);
  const short = whole.subarray(HEAD, whole.length - TAIL);
  return { name, checksum, size: bytes.length, packed: new Blob([short.length < bytes.length ? short : bytes]) };
}

addEventListener("message", async ({ data: files }) => {
  try {
    const all = [];
    for (const file of files) all.push(await packed(file));
    postMessage({ packed: all });
  } catch (error) {
    postMessage({ failed: error.message });
  }
});
