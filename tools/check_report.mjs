// Looks at a report as people do: axe finds what a screen reader would miss, and screenshots show the rest.
//
//   npm install --prefix DIR axe-core playwright-core
//   node tools/check_report.mjs REPORT.html DIR OUT [PIXELS [CHROMIUM]]
//
// Writes OUT/report-{1280,390}-{light,dark}.png and print.pdf; ends with 1 if axe finds a violation, the page is wider
// than the window, or something fails to load. PIXELS: how much of the page to picture from its top, by default all;
// CHROMIUM: the browser, by default /usr/bin/chromium.
import { createRequire } from "node:module";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [report, modules, out, pixels = 0, chromium = "/usr/bin/chromium"] = process.argv.slice(2);
const require = createRequire(join(resolve(modules), "node_modules", "here.js"));
const { chromium: browser } = require("playwright-core");
const axe = require.resolve("axe-core/axe.min.js");
const profile = mkdtempSync(join(tmpdir(), "report-"));
const quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];
mkdirSync(out, { recursive: true });
let wrong = 0;
const complain = (words) => { wrong += 1; console.error(words); };

const context = await browser.launchPersistentContext(profile, { executablePath: chromium, args: quiet });
const page = await context.newPage();
page.on("pageerror", (error) => complain(`script: ${error}`));
page.on("request", (request) => { if (!/^(file|data):/.test(request.url())) complain(`asks the network: ${request.url()}`); });
for (const width of [1280, 390]) {
  for (const colorScheme of ["light", "dark"]) {
    await page.setViewportSize({ width, height: width === 390 ? 844 : 900 });
    await page.emulateMedia({ colorScheme });
    await page.goto(pathToFileURL(resolve(report)).href);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    if (wide > width) complain(`${width} px: the page is ${wide} px wide`);
    await page.addScriptTag({ path: axe });
    const found = await page.evaluate(() => axe.run());
    for (const violation of found.violations) {
      complain(`${width} ${colorScheme}: ${violation.id}: ${violation.help}: ${violation.nodes.length} x, first ${violation.nodes[0].html.slice(0, 160)}`);
    }
    console.log(`${width} ${colorScheme}: ${found.violations.length} violations, ${found.passes.length} rules passed`);
    const tall = await page.evaluate(() => document.documentElement.scrollHeight);
    const clip = { x: 0, y: 0, width, height: Math.min(Number(pixels) || tall, tall) };
    await page.screenshot({ path: join(out, `report-${width}-${colorScheme}.png`), fullPage: true, clip });
  }
}
await page.emulateMedia({ media: "print", colorScheme: "light" });
await page.pdf({ path: join(out, "print.pdf"), format: "A4", margin: { top: "14mm", bottom: "14mm", left: "14mm", right: "14mm" } });
await context.close();
rmSync(profile, { recursive: true, force: true });
process.exitCode = wrong ? 1 : 0;
