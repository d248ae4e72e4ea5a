// The package where an example has copied it to.
declare module "*/magpie/magpie.js" {
  export * from "magpie-recognizer";
}
