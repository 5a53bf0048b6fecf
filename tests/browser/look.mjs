// Opens a page of tracks in headless Chromium, waits until it has drawn, and tells what it saw.
//
//   node look.mjs PAGE jbrowse|igv|report SCREENSHOT.png [WIDTH HEIGHT]
//
// Prints a JSON object: messages of the page that are errors, what failed to load, the text
// that is shown, and for each canvas how many of its pixels have a colour of their own.
import { chromium } from "playwright-core";

const [address, kind, screenshot, width = "1100", height = "700"] = process.argv.slice(2);
const program = process.env.CISTRON_CHROMIUM ?? "/usr/bin/chromium";
// A loaded machine of two cores draws slowly.
const patience = 300_000;
const browser = await chromium.launch({
  executablePath: program,
  timeout: patience,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const page = await browser.newPage({
  viewport: { width: Number(width), height: Number(height) },
});
page.setDefaultTimeout(patience);
const errors = [];
const failed = [];
const asked = [];
page.on("pageerror", error => errors.push(String(error)));
page.on("console", message => {
  if (message.type() === "error") errors.push(message.text());
});
page.on("response", reply => {
  const { pathname } = new URL(reply.url());
  asked.push(pathname);
  if (reply.status() >= 400 && pathname !== "/favicon.ico") failed.push(`${reply.status()} ${pathname}`);
});
// Nothing may be fetched from elsewhere.
const host = new URL(address).host;
await page.route("**/*", route => {
  const url = new URL(route.request().url());
  if (url.protocol.startsWith("http") && url.host !== host) {
    failed.push(`elsewhere ${url.href}`);
    return route.abort();
  }
  return route.continue();
});

/** Pixels of each canvas that are neither white nor transparent nor grey. */
const canvases = () => page.evaluate(() => {
  const all = [];
  const visit = root => {
    for (const element of root.querySelectorAll("*")) {
      if (element.tagName === "CANVAS") all.push(element);
      if (element.shadowRoot) visit(element.shadowRoot);
    }
  };
  visit(document);
  return all.filter(canvas => canvas.width > 0 && canvas.height > 0).map(canvas => {
    const copy = document.createElement("canvas");
    copy.width = canvas.width;
    copy.height = canvas.height;
    const context = copy.getContext("2d");
    context.drawImage(canvas, 0, 0);
    const data = context.getImageData(0, 0, copy.width, copy.height).data;
    let coloured = 0;
    for (let i = 0; i < data.length; i += 4) {
      const [r, g, b, a] = data.slice(i, i + 4);
      if (a > 0 && Math.max(r, g, b) - Math.min(r, g, b) > 40) coloured += 1;
    }
    return { width: canvas.width, height: canvas.height, coloured };
  });
});
const text = () => page.evaluate(() => {
  const parts = [document.body.innerText];
  for (const element of document.querySelectorAll("*")) {
    if (element.shadowRoot) parts.push(...[...element.shadowRoot.children].map(child => child.innerText ?? ""));
  }
  return parts.join("\n");
});

await page.goto(address, { waitUntil: "load" });
if (kind !== "report") {
  // Drawn means: at least three canvases with colour.
  const end = Date.now() + patience;
  while (Date.now() < end) {
    await page.waitForTimeout(1_000);
    const drawn = (await canvases()).filter(canvas => canvas.coloured > 200).length;
    if (drawn >= 3) break;
  }
  await page.waitForTimeout(5_000);
}
await page.screenshot({ path: screenshot, fullPage: kind === "report" });
const wide = await page.evaluate(() => document.documentElement.scrollWidth);
console.log(JSON.stringify({
  errors,
  failed,
  asked,
  text: await text(),
  canvases: kind === "report" ? [] : await canvases(),
  scrollWidth: wide,
}));
await browser.close();
