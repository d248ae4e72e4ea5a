// Nothing in it is about the package.
module.exports = { mode: "production", entry: "./src/main.js", output: { clean: true } };
