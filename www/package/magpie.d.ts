// Without the types of browsers (a program in Node, a worker) their names stand for nothing.
type Of<Name extends string> = typeof globalThis extends { [name in Name]: { prototype: infer Type } }
  ? Type
  : never;

/** Pixels as red, green, blue, alpha, like an `ImageData`. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray;
}

/** Anything with pixels. A file may be of any type that the engine or the browser decodes, whatever it is called. */
export type ImageLike =
  | Pixels
  | Of<"Blob">
  | Of<"ImageData">
  | Of<"ImageBitmap">
  | Of<"HTMLImageElement">
  | Of<"HTMLCanvasElement">
  | Of<"OffscreenCanvas">
  | Of<"HTMLVideoElement">
  | Of<"VideoFrame">;

export type Backend = "cpu" | "webgpu";

/** What a failure is, for a program. */
export type ErrorCode =
  /** The network or the host. */
  | "fetch"
  /** A file of the bundle is incomplete. */
  | "truncated"
  /** A file of the bundle is not the published one. */
  | "corrupted"
  /** The bundle was published by a newer program. */
  | "too-new"
  /** The bundle cannot be read for another reason. */
  | "bundle"
  /** The picture cannot be decoded, or the browser does not give its pixels as they are. */
  | "picture"
  /** A change of the gallery that cannot be made. */
  | "gallery"
  /** The engine or its device failed. */
  | "device"
  /** The engine stopped at this request, and was started again: others go on, this one may be tried again. */
  | "stopped"
  /** A value that a call does not take. */
  | "argument"
  /** The engine was ended. */
  | "disposed";

export class MagpieError extends Error {
  constructor(code: ErrorCode, message: string);
  readonly code: ErrorCode;
  /** The code in one word: "toonew". */
  readonly kind: string;
}

export interface Cancellable {
  /** Takes the request back; the call then rejects with the signal's reason. */
  signal?: Of<"AbortSignal">;
}

export interface LoadOptions extends Cancellable {
  /** Bytes of the bundle so far, and in all. */
  onProgress?: (progress: { loaded: number; total: number }) => void;
  /**
   * "auto" begins with the CPU. Where there is a real WebGPU adapter, both engines are measured once, while nothing
   * is asked, and the faster one is kept in localStorage for the next load; not where the visitor saves data.
   */
  backend?: "auto" | Backend;
  /**
   * Address of a folder with the engine's files; by default those beside this module, which bundlers find. They may
   * come from another origin whose host sends Access-Control-Allow-Origin.
   */
  assets?: string | Of<"URL">;
  /** False: ready before the classes' pictures have come; answers have none until then. */
  thumbnails?: boolean;
  /**
   * Threads on the CPU, in a page that is isolated from other sites; by default as many as the device
   * has cores, at most four.
   */
  threads?: number;
  /**
   * What networks compute in on the CPU, whatever their files say. Int8 takes browsers with
   * relaxed SIMD about half of the time and changes embeddings a little; others compute in floats.
   */
  arithmetic?: Arithmetic;
}

/** 32-bit floats, or int8. */
export type Arithmetic = "f32" | "i8";

/** In pixels of the picture, turned upright. */
export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** A class that an object may be. */
export interface Answer {
  label: string;
  /** Cosine, -1 to 1. */
  similarity: number;
  /**
   * How probable it is that this is right, 0 to 1, as the images that the gallery was calibrated with say. Only of the
   * best answer of a known object; null else, and where the gallery was not calibrated (`magpie gallery calibrate`).
   */
  probability: number | null;
  /** What the gallery says about the class. It is text: never put it into a page as markup. */
  metadata: Record<string, string>;
  thumbnail: Of<"Blob"> | null;
}

export interface FoundObject {
  box: Box;
  /** How sure the detector is, 0 to 1; 1 for the whole picture. */
  detectionScore: number;
}

export interface RecognizedObject extends FoundObject {
  /** Whether the best answer is similar enough. */
  known: boolean;
  /** The best answer's label where it is known. */
  label: string | null;
  /** Best first. */
  answers: Answer[];
  /** Of unit length. */
  embedding: Float32Array;
}

export interface Recognition {
  width: number;
  height: number;
  /** The surest answer first. */
  objects: RecognizedObject[];
  /** Milliseconds. */
  timings: { decode: number; detect: number; embed: number; search: number };
  /** Threads that computed it: one until the others have come, and in pages that share no memory. */
  threads: number;
}

export interface GalleryView {
  /** Classes and entries in all. */
  classes: number;
  entries: number;
  /** Classes of these that are fetched when they are needed, and can be neither listed nor changed. */
  unlisted: number;
  /** Classes that the filter lets through, and the first of them, at most 60. */
  matching: number;
  shown: { label: string; entries: number; thumbnail: Of<"Blob"> | null }[];
  /** Whether it differs from the published one, and whether there is a change to take back. */
  edited: boolean;
  canUndo: boolean;
  /** Whether this browser keeps it until the next visit. */
  kept: boolean;
}

/** The classes that pictures are compared with; changes stay in this browser. */
export interface Gallery {
  /** Adds the whole picture, of one thing, to a class, which is made where it is not there. */
  add(label: string, picture: ImageLike, options?: Cancellable): Promise<GalleryView>;
  remove(label: string, options?: Cancellable): Promise<GalleryView>;
  rename(from: string, to: string, options?: Cancellable): Promise<GalleryView>;
  undo(options?: Cancellable): Promise<GalleryView>;
  reset(options?: Cancellable): Promise<GalleryView>;
  /**
   * The first classes by label, at most 60; `filter` finds the others: those whose labels hold it, in small letters or
   * capitals. Changes bring the same view, without a filter.
   */
  list(filter?: string, options?: Cancellable): Promise<GalleryView>;
  /** Classes that may be mistaken for each other, the most similar pair first. */
  alike(options?: Cancellable): Promise<{ first: string; second: string; similarity: number }[]>;
  search(
    embedding: ArrayLike<number>,
    /** `topK`: an integer from 1 to 10,000, 5 unless given; others are refused with the code "argument". */
    options?: Cancellable & { topK?: number },
  ): Promise<Answer[]>;
  export(options?: Cancellable): Promise<Of<"Blob">>;
  import(file: Of<"Blob"> | ArrayBuffer | Uint8Array, options?: Cancellable): Promise<GalleryView>;
}

/** What must be reached to be an answer (a cosine, -1 to 1), and to be an object (a score, 0 to 1). */
export interface Thresholds {
  minSimilarity: number;
  minScore: number;
}

/** A part of the pipeline. */
export type StageName =
  | "detector-network"
  | "extractor-network"
  | "detect"
  | "embed"
  | "search"
  | "recognize";

/** What is measured: a stage alone, or with how much it has to do. The engine's own names are taken as well. */
export type Stage =
  | StageName
  | { stage: Exclude<StageName, "embed" | "search"> }
  /** `batch`: crops at once, 1 to 64; 1 unless given. */
  | { stage: "embed"; batch?: number }
  /** `entries`: of a gallery that is made up, 1 to 200,000; the bundle's own gallery unless given. */
  | { stage: "search"; entries?: number }
  | "DetectorNetwork"
  | "ExtractorNetwork"
  | "Detect"
  | { Embed: number }
  | "Search"
  | { SearchIn: number }
  | "Recognize";

/**
 * A loaded bundle in an engine of its own. Requests are answered in their order; a picture whose file has not been read
 * after three seconds goes later. A value that a call does not take is refused with the code "argument".
 */
export class Magpie {
  private constructor();
  static load(bundle: string | Of<"URL">, options?: LoadOptions): Promise<Magpie>;
  readonly title: string;
  readonly notes: string[];
  readonly backend: Backend;
  /** Whether it finds objects; without a detector every picture is one. */
  readonly detects: boolean;
  /** What products are computed in. */
  readonly arithmetic: Arithmetic;
  readonly thresholds: Thresholds;
  readonly gallery: Gallery;
  /**
   * With `follow` the picture is the next frame of a camera: what has hardly changed is quick. `topK` is how many
   * classes to name of each object: an integer from 1 to 10,000, 5 unless given.
   */
  recognize(
    picture: ImageLike,
    options?: Cancellable & { topK?: number; follow?: boolean },
  ): Promise<Recognition>;
  detect(
    picture: ImageLike,
    options?: Cancellable,
  ): Promise<{ width: number; height: number; objects: FoundObject[] }>;
  embed(picture: ImageLike, options?: Cancellable): Promise<Float32Array>;
  /** Recognizes by other thresholds from now on, -1 to 1 and 0 to 1; what is left out stays as it is. */
  tune(thresholds: Partial<Thresholds>, options?: Cancellable): Promise<Thresholds>;
  /** Milliseconds of several runs of a part of the pipeline, on a drawn picture; 20, at most 10,000. */
  measure(part: Stage, options?: Cancellable & { runs?: number }): Promise<number[]>;
  /** Whether its engine has ended: by `dispose`, or since it stopped for good. Calls fail then. */
  readonly ended: boolean;
  dispose(): void;
}
