"use strict";
// The page of `mcti view`: one slide, its layers, a scale bar, and the tile under the pointer.

const find = (id) => document.getElementById(id);
const names = { tissue: "Tissue", tiles: "Tiles", scores: "Scores" };
const opacities = { tissue: 0.8, tiles: 0.7, scores: 0.55 };

function addLayer(viewer, name) {
  const row = document.createElement("div");
  row.className = "layer";
  const label = document.createElement("label");
  const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: name !== "tiles", id: "show-" + name });
  const range = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 1, step: 0.05, value: opacities[name] });
  range.setAttribute("aria-label", "Opacity of " + names[name]);
  label.append(box, " " + names[name]);
  row.append(label, range);
  find("layers").append(row);
  viewer.addTiledImage({
    tileSource: name + ".dzi", x: 0, y: 0, width: 1, opacity: box.checked ? opacities[name] : 0,
    success: ({ item }) => {
      const apply = () => item.setOpacity(box.checked ? Number(range.value) : 0);
      box.addEventListener("change", apply);
      range.addEventListener("input", apply);
      apply();
    },
  });
}

function showLegend(legend) {
  if (!legend) return;
  find("legend").hidden = false;
  find("score-name").textContent = legend.name;
  find("ramp").style.background = "linear-gradient(to right, " + legend.colours.map((c) => `rgb(${c})`).join(", ") + ")";
  find("low").textContent = legend.low.toPrecision(3);
  find("high").textContent = legend.high.toPrecision(3);
}

function scaleBar(viewer, mpp) {
  const item = viewer.world.getItemAt(0);
  if (!item) return;
  const perPixel = mpp / item.viewportToImageZoom(viewer.viewport.getZoom(true)); // µm per screen pixel
  const longest = perPixel * 160;
  const power = 10 ** Math.floor(Math.log10(longest));
  const length = [5, 2, 1].map((n) => n * power).find((n) => n <= longest);
  find("bar-line").style.width = length / perPixel + "px";
  find("bar-text").textContent = length >= 1000 ? length / 1000 + " mm" : Number(length.toPrecision(1)) + " µm";
}

function trackPointer(viewer, mpp) {
  let latest = 0;
  new OpenSeadragon.MouseTracker({
    element: viewer.canvas,
    moveHandler: async (event) => {
      const item = viewer.world.getItemAt(0);
      if (!item) return;
      const point = item.viewerElementToImageCoordinates(event.position);
      const request = ++latest;
      await new Promise((done) => setTimeout(done, 60)); // wait until the pointer stops
      if (request !== latest) return;
      const response = await fetch(`tile.json?x=${point.x}&y=${point.y}`);
      const tile = response.ok ? await response.json() : null;
      if (request !== latest) return;
      const position = `x ${Math.round(point.x)}, y ${Math.round(point.y)} px`;
      const score = tile && "score" in tile ? `, score ${tile.score.toPrecision(4)}` : "";
      find("pointer").textContent = position + (tile ? `; tile ${tile.x}, ${tile.y}${score}` : "");
    },
  });
}

async function start() {
  const scene = await (await fetch("scene.json")).json();
  document.title = scene.name + ": mcti view";
  find("name").textContent = scene.name;
  const mm = (px) => ((px * scene.mpp) / 1000).toFixed(1);
  find("size").textContent = `${scene.width} × ${scene.height} px, ${scene.mpp} µm/px, ${mm(scene.width)} × ${mm(scene.height)} mm`;
  showLegend(scene.legend);
  const viewer = OpenSeadragon({
    element: find("slide"), tileSources: "slide.dzi", showNavigationControl: false, showNavigator: false,
    maxZoomPixelRatio: 4, visibilityRatio: 0.2, animationTime: 0.4, gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    crossOriginPolicy: false, drawer: "canvas",
  });
  window.viewer = viewer; // for tests and the console
  viewer.addOnceHandler("open", () => {
    scene.layers.forEach((name) => addLayer(viewer, name));
    scaleBar(viewer, scene.mpp);
    viewer.canvas.focus(); // the keys +, -, 0 and arrows work before the first click
  });
  viewer.addHandler("animation", () => scaleBar(viewer, scene.mpp));
  viewer.addHandler("resize", () => scaleBar(viewer, scene.mpp));
  find("zoom-in").addEventListener("click", () => viewer.viewport.zoomBy(1.6));
  find("zoom-out").addEventListener("click", () => viewer.viewport.zoomBy(1 / 1.6));
  find("fit").addEventListener("click", () => viewer.viewport.goHome());
  find("native").addEventListener("click", () =>
    viewer.viewport.zoomTo(viewer.world.getItemAt(0).imageToViewportZoom(1)));
  trackPointer(viewer, scene.mpp);
}

start().catch((error) => { find("pointer").textContent = "The slide could not be opened: " + error.message; });
