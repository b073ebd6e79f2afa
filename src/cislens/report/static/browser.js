"use strict";
(() => {
  const text = id => document.getElementById(id).textContent;
  const block = document.getElementById("browser");
  const stage = block.querySelector(".stage");
  const status = block.querySelector(".status");
  const toggles = block.querySelector(".toggles");
  // igv.js writes names as HTML, also into attributes; no name of ours is any or ends one.
  const plain = (key, value) => typeof value === "string"
    ? value.replaceAll("<", "\u2039").replaceAll('"', "\u201d") : value;
  const views = JSON.parse(text("browser-views"), plain);
  let browser = null, shown = -1, loading = Promise.resolve();

  // igv.js fails where a track goes while it still draws; so one thing is done after the other.
  const next = work => {
    const done = loading.then(work);
    loading = done.catch(() => {});
    return done;
  };

  // igv.js draws dark on white in a shadow root, where the page's styles do not reach.
  const INSIDE = `
    .igv-container { color-scheme: light; padding-top: 0; }
    .igv-track-label { border: 0; background: rgba(255, 255, 255, 0.85); font-size: 12px; top: 2px; }
    .igv-navbar { background: #fff; border: 0; border-bottom: 1px solid #e3e8ec; border-radius: 0; }
    .igv-track-drag-column { opacity: 0.4; }
    @media (max-width: 640px) {
      .igv-logo, .igv-current-genome, .igv-windowsize-panel-container,
      .igv-navbar-toggle-button-container { display: none !important; }
      .igv-track-label { max-width: 95%; }
    }`;

  const unpacked = async () => {
    const bytes = Uint8Array.from(atob(text("browser-library")), sign => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  };

  const unfolded = track => {
    const { stretches, bed, kind, ...config } = track;
    if (bed !== undefined) config.url = `data:text/plain,${encodeURIComponent(bed)}`;
    if (!stretches) return config;
    config.features = stretches.flatMap(({ chrom, start, step, values }) => values.map(
      (value, i) => ({ chr: chrom, start: start + i * step, end: start + (i + 1) * step, value })
    ).filter(bin => bin.value !== null));
    return config;
  };

  // igv.js takes positions as people write them: 1-based, both ends included.
  const locus = place => `${place.chrom}:${place.start + 1}-${place.end}`;

  const listTracks = view => {
    toggles.replaceChildren(...view.tracks.map((track, order) => {
      const label = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = true;
      const swatch = document.createElement("span");
      swatch.className = `swatch ${track.kind}`;
      box.addEventListener("change", async () => {
        box.disabled = true;
        await next(async () => {
          if (box.checked) await browser.loadTrack({ ...unfolded(track), order: order + 1 });
          else {
            await browser.updateViews();
            browser.removeTrackByName(track.name);
          }
        });
        box.disabled = false;
      });
      label.append(box, swatch, track.name);
      return label;
    }));
  };

  const show = async (number, place) => {
    const view = views[number];
    if (shown === number) return browser.search(locus(place));
    if (!window.igv) await unpacked();
    window.igv.removeAllBrowsers();
    browser = await window.igv.createBrowser(stage, {
      reference: { ...view.reference, tracks: [] },
      locus: locus(place),
      tracks: view.tracks.map((track, order) => ({ ...unfolded(track), order: order + 1 })),
      loadDefaultGenomes: false, search: false, queryParametersSupported: false,
      showAllChromosomes: false, showSampleNameButton: false, showROITableButton: false,
      showTrackLabelButton: false, showMultiSelectButton: false, showIdeogram: false,
      showChromosomeWidget: !view.reference.fastaURL?.startsWith("data:"), minimumBases: 20,
    });
    block.igv = browser;  // for scripts of one's own
    const inside = new CSSStyleSheet();
    inside.replaceSync(INSIDE);
    if (shown < 0) stage.shadowRoot.adoptedStyleSheets.push(inside);
    shown = number;
    listTracks(view);
  };

  const go = async button => {
    const [number, at] = button.dataset.place.split(" ").map(Number);
    for (const other of block.querySelectorAll("[data-place]"))
      other.setAttribute("aria-pressed", String(other === button));
    status.textContent = "Loading \u2026";
    try {
      await next(() => show(number, views[number].places[at]));
      status.textContent = "";
      block.dataset.ready = "yes";
    } catch (error) {
      status.textContent = `The browser cannot show this: ${error.message || error}`;
    }
  };

  const buttons = [...block.querySelectorAll("[data-place]")];
  for (const button of buttons) button.addEventListener("click", () => go(button));
  const start = () => { if (!browser && buttons.length) go(buttons[0]); };
  const fold = block.closest("details");
  if (!fold || fold.open) start();
  else fold.addEventListener("toggle", start, { once: true });
})();
