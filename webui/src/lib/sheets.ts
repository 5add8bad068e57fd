// xterm.js styles itself with <style> elements it makes, which the page's content security policy forbids: styles come
// from files of ours only. A style sheet made by script is allowed; so while the terminal is built, every <style> it asks
// for is a stand-in whose text goes into such a sheet.

/** Runs `build`; gives what takes its sheets away again. */
export function withSheets(build: () => void): () => void {
  const sheets = new Set<CSSStyleSheet>();
  const make = Document.prototype.createElement;
  document.createElement = (name: string, options?: ElementCreationOptions): HTMLElement => {
    if (name !== "style") return make.call(document, name, options);
    const sheet = new CSSStyleSheet();
    sheets.add(sheet);
    document.adoptedStyleSheets.push(sheet);
    const stand = make.call(document, "span");
    stand.hidden = true;
    Object.defineProperty(stand, "textContent", {
      get: () => "",
      set: (text: string) => sheet.replaceSync(text),
    });
    return stand;
  };
  try {
    build();
  } finally {
    // The own property goes; the prototype's method is what it was.
    Reflect.deleteProperty(document, "createElement");
  }
  return () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((sheet) => !sheets.has(sheet));
  };
}
