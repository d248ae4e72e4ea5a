// Files of the browser's private file system and of folders that an owner chooses.

/**
 * Writes beside, and takes the place of what was there once it is whole: a page closed in the middle leaves what was.
 */
export async function write(folder, name, content) {
  const file = await folder.getFileHandle(name, { create: true });
  const stream = await file.createWritable();
  try {
    await stream.write(content);
    await stream.close();
  } catch (error) {
    await stream.abort().catch(() => {});
    throw error;
  }
}
