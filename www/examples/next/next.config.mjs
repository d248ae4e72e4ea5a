// A static page below /next/ of any host; nothing in it is about the package.
export default { output: "export", basePath: "/next", trailingSlash: true };
