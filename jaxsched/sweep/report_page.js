"use strict";
// One rank is one setting, from 0, and every array of the data is in the order of the ranks.
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const count = data.count;
  const lost = new Set(data.lost);
  const MANY = 48; // curves that are drawn strongly; the rest are pale
  const REACH = 28; // pixels from the pointer to the curve that it means
  const state = { hover: null, pinned: null, shown: new Uint8Array(count).fill(1), colours: {} };
  const views = []; // each has light(rank), recolour() and refilter()

  // --- small things --------------------------------------------------------------------------------------------------

  // Numbers are sent as 24 bits, four characters of base64 each.
  function words(text) {
    const bytes = atob(text);
    const bits = new Uint32Array(bytes.length / 3);
    for (let i = 0, k = 0; i < bits.length; i += 1, k += 3) {
      bits[i] = (bytes.charCodeAt(k) << 16) | (bytes.charCodeAt(k + 1) << 8) | bytes.charCodeAt(k + 2);
    }
    return bits;
  }

  // The points of a panel, one curve after the other: that of a rank lies from starts[rank] to starts[rank + 1].
  function unpack(panel) {
    if (panel.values) return;
    panel.values = new Float32Array(words(panel.y).map((bits) => bits << 8).buffer); // 16 bits of precision, a curve's
    const { x, sizes } = panel;
    panel.starts = new Uint32Array(count + 1);
    for (let rank = 0; rank < count; rank += 1) panel.starts[rank + 1] = panel.starts[rank] + (x ? x.length : sizes[rank]);
    panel.steps = x ? Float64Array.from(panel.values, (_, k) => x[k % x.length]) : Float64Array.from(words(panel.steps), (step) => step * panel.unit);
    panel.ends = panel.steps.reduce(([low, high], step) => [Math.min(low, step), Math.max(high, step)], [Infinity, -Infinity]);
  }

  function shown(value) {
    if (value === null) return "–";
    if (typeof value === "string") return value;
    if (Number.isInteger(value) && Math.abs(value) < 1e15) return value.toLocaleString("en-US");
    const size = Math.abs(value);
    const short = Number(value.toPrecision(4));
    if (size >= 1e-4 && size < 1e6) return String(short);
    return short.toExponential().replace(/e([+-])(\d)$/, "e$10$2"); // 1e-05, as Python writes it
  }

  // Plotly reads tags in its texts: what a user named is text, and nothing else.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  // A long name in a few short lines, broken where its parts end.
  function folded(text) {
    const lines = [""];
    for (const part of text.match(/[^.,:_(]*[.,:_(]*\s*/g)) {
      if (lines.at(-1) && (lines.at(-1) + part).trimEnd().length > 16) lines.push("");
      lines[lines.length - 1] += part;
    }
    const few = lines.length > 3 ? [...lines.slice(0, 2), `${lines[2].slice(0, 13)}...`] : lines;
    return few.map((line) => plain(line.trim())).join("<br>");
  }

  function element(tag, options = {}, ...children) {
    const { dataset, ...rest } = options;
    const made = Object.assign(document.createElement(tag), rest);
    Object.assign(made.dataset, dataset || {});
    made.append(...children);
    return made;
  }

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(`--${name}`).trim();
    for (const name of ["paper", "ink", "soft", "line", "mesh", "best", "lost"]) state.colours[name] = read(name);
    const stops = [0, 1, 2, 3, 4].map((k) => read(`rank-${k}`).match(/[0-9a-f]{2}/gi).map((x) => parseInt(x, 16)));
    state.colours.ranks = Array.from({ length: count }, (_, rank) => {
      const at = count > 1 ? (4 * rank) / (count - 1) : 0;
      const k = Math.min(3, Math.floor(at));
      const mixed = stops[k].map((x, c) => Math.round(x + (stops[k + 1][c] - x) * (at - k)));
      return `rgb(${mixed.join(",")})`;
    });
  }

  // --- figures -------------------------------------------------------------------------------------------------------

  const touch = matchMedia("(pointer: coarse)").matches;
  const CONFIG = {
    displaylogo: false, doubleClick: "reset",
    // Named one by one: plotly's own bar would offer to send the figure to a server.
    modeBarButtons: [["zoomIn2d", "zoomOut2d", "resetScale2d"]],
  };
  const axisLook = () => ({
    gridcolor: state.colours.mesh, // a pale one, as it lies over the canvas
    linecolor: state.colours.line, zeroline: false, tickcolor: state.colours.line,
    automargin: true, exponentformat: "e",
  });
  const look = () => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: false, showlegend: false,
    font: { color: state.colours.ink, family: getComputedStyle(document.body).fontFamily, size: 12 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: state.colours.soft, activecolor: state.colours.ink },
    margin: { l: 52, r: 12, t: 24, b: 40 }, dragmode: touch ? false : "zoom",
  });

  // Plotly lays a cover over the page while a button is down, so a click of the browser's does not reach the figure.
  function clicks(plot, clicked) {
    let down = null;
    plot.addEventListener("pointerdown", (event) => { down = event.target.closest(".modebar") ? null : event; });
    addEventListener("pointerup", (event) => {
      if (down && Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) < 5) clicked(event);
      down = null;
    });
    addEventListener("pointercancel", () => { down = null; });
  }

  // A box changes its width with the window, and with a scroll bar that comes.
  function follow(box, plot) {
    let wide = box.clientWidth;
    new ResizeObserver(() => {
      if (box.clientWidth === wide || !box.clientWidth) return;
      wide = box.clientWidth;
      Plotly.Plots.resize(plot);
    }).observe(box);
  }

  // All curves of a figure are drawn on a canvas under plotly's axes, and only those that are lit are traces of plotly:
  // so thousands of curves cost one drawing, and pointing at one costs a restyle of a few hundred points.
  class Curves {
    constructor(id, panels) {
      this.box = byId(id);
      this.canvas = this.box.querySelector("canvas");
      this.plot = this.box.querySelector(".plot");
      this.panels = panels;
      this.drawn = "";
      this.choose(0);
    }

    choose(index) {
      this.panel = this.panels[index];
      unpack(this.panel);
      const other = this.panel.other;
      this.beside = other === null ? null : this.panels[other];
      if (this.beside) unpack(this.beside);
    }

    row(panel, rank) {
      if (rank === null || panel === null) return { x: [], y: [] };
      const part = (all) => Array.from(all.subarray(panel.starts[rank], panel.starts[rank + 1]));
      return { x: part(panel.steps), y: part(panel.values) };
    }

    axes() {
      const { panel } = this;
      const range = panel.log ? [Math.log10(panel.low), Math.log10(panel.high)] : [panel.low, panel.high];
      const [first, last] = panel.ends;
      const along = first < last ? [first, last] : [first - 1, last + 1];
      const title = (text) => ({ text: plain(text), standoff: 8 });
      return {
        xaxis: { ...axisLook(), title: title(panel.x_label), range: along },
        yaxis: { ...axisLook(), title: title(panel.label), type: panel.log ? "log" : "linear", range, ...(range[1] - range[0] > 1.5 && panel.log ? { dtick: 1 } : {}) },
      };
    }

    traces() {
      const line = (rank, panel, name, options) => ({
        type: "scatter", mode: this.panel.ends[0] < this.panel.ends[1] ? "lines" : "markers", name, meta: { rank }, ...this.row(panel, rank),
        connectgaps: false, line: { simplify: false, ...options }, marker: { color: options.color, size: 8 },
      });
      const { best, ink } = state.colours;
      const first = data.best;
      return [
        line(first, this.panel, "best", { color: best, width: 2.5 }),
        line(first, this.beside, "best, beside", { color: best, width: 1.5, dash: "4px,3px" }),
        line(state.active ?? null, this.panel, "lit", { color: ink, width: 3 }),
        line(state.active ?? null, this.beside, "lit, beside", { color: ink, width: 1.5, dash: "4px,3px" }),
      ];
    }

    make() {
      Plotly.newPlot(this.plot, this.traces(), { ...look(), ...this.axes(), ...this.extra() }, this.config());
      this.plot.on("plotly_afterplot", () => this.paint());
      follow(this.box, this.plot);
      this.plot.addEventListener("pointermove", (event) => this.pointed(event));
      this.plot.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hover(null));
      clicks(this.plot, (event) => this.clicked(event));
      this.paint();
    }

    extra() { return {}; }
    config() { return { ...CONFIG, displayModeBar: touch ? false : "hover" }; }

    redraw() {
      this.drawn = "";
      Plotly.react(this.plot, this.traces(), { ...look(), ...this.axes(), ...this.extra() }, this.config());
      this.paint();
    }
    recolour() { this.redraw(); }
    refilter() { this.drawn = ""; this.paint(); }

    light(rank) {
      const rows = [this.row(this.panel, rank), this.row(this.beside, rank)];
      Plotly.restyle(this.plot, { x: rows.map(({ x }) => x), y: rows.map(({ y }) => y), meta: [{ rank }, { rank }] }, [2, 3]);
    }

    // From data to pixels of the box, as plotly's axes have it now.
    scales() {
      const { xaxis, yaxis } = this.plot._fullLayout;
      const [x0, x1] = xaxis.range.map(Number);
      const [y0, y1] = yaxis.range.map(Number);
      const along = xaxis._length / (x1 - x0);
      const up = yaxis._length / (y1 - y0);
      return {
        left: xaxis._offset, top: yaxis._offset, width: xaxis._length, height: yaxis._length,
        x: (value) => xaxis._offset + (value - x0) * along,
        y: this.panel.log
          ? (value) => yaxis._offset + yaxis._length - (Math.log10(value) - y0) * up
          : (value) => yaxis._offset + yaxis._length - (value - y0) * up,
        step: (pixel) => x0 + (pixel - xaxis._offset) / along,
        height_of: (pixel) => y0 + (yaxis._offset + yaxis._length - pixel) / up,
      };
    }

    paint() {
      const { clientWidth: wide, clientHeight: high } = this.box;
      const scales = this.scales();
      const now = [wide, high, scales.left, scales.top, scales.width, scales.height, scales.step(0), scales.step(1), scales.y(1), scales.y(2)].join();
      if (now === this.drawn || !wide) return;
      this.drawn = now;
      const dense = window.devicePixelRatio || 1;
      this.canvas.width = wide * dense;
      this.canvas.height = high * dense;
      const pen = this.canvas.getContext("2d");
      pen.scale(dense, dense);
      pen.beginPath();
      pen.rect(scales.left, scales.top, scales.width, scales.height);
      pen.clip();
      pen.lineJoin = "round";
      for (let rank = count - 1; rank >= 0; rank -= 1) if (state.shown[rank]) this.stroke(pen, rank, scales);
    }

    stroke(pen, rank, scales) {
      const { steps, values, starts } = this.panel;
      const pale = count > MANY && rank >= MANY;
      const gone = lost.has(rank);
      pen.strokeStyle = pen.fillStyle = gone ? state.colours.lost : state.colours.ranks[rank];
      pen.globalAlpha = (pale ? Math.max(0.12, 0.8 * Math.sqrt(MANY / count)) : 0.85) * (gone ? 0.7 : 1);
      pen.lineWidth = pale ? 0.8 : 1.3;
      pen.beginPath();
      let before = false;
      for (let k = starts[rank]; k < starts[rank + 1]; k += 1) {
        const x = scales.x(steps[k]);
        const y = scales.y(values[k]);
        const there = y < 1e7 && y > -1e7; // neither NaN nor the logarithm of what has none
        if (there && before) pen.lineTo(x, y);
        else if (there) {
          pen.moveTo(x, y);
          const next = k + 1 < starts[rank + 1] ? values[k + 1] : NaN;
          if (Number.isNaN(next)) pen.rect(x - 1.5, y - 1.5, 3, 3); // a point alone has no line
        }
        before = there;
      }
      pen.stroke();
    }

    // The rank of the curve that the pointer means, or null.
    nearest(event) {
      const frame = this.box.getBoundingClientRect();
      const [px, py] = [event.clientX - frame.left, event.clientY - frame.top];
      const scales = this.scales();
      const inside = px >= scales.left - 8 && px <= scales.left + scales.width + 8 && py >= scales.top - 8 && py <= scales.top + scales.height + 8;
      if (!inside) return null;
      const reach = [scales.step(px - REACH), scales.step(px + REACH)];
      let [found, least] = [null, REACH * REACH];
      for (let rank = 0; rank < count; rank += 1) {
        if (!state.shown[rank]) continue;
        const far = this.distance(rank, reach, px, py, scales);
        if (far < least - 1e-6) [found, least] = [rank, far];
      }
      return found;
    }

    // The square of the distance from the pointer to a curve, as far as it lies in reach.
    distance(rank, reach, px, py, scales) {
      const { steps, values, starts } = this.panel;
      const [first, last] = [starts[rank], starts[rank + 1] - 1];
      const after = (step) => { // the first point behind a step
        let [low, high] = [first, last + 1];
        while (low < high) {
          const middle = (low + high) >> 1;
          if (steps[middle] > step) high = middle;
          else low = middle + 1;
        }
        return low;
      };
      const from = Math.max(first, after(reach[0]) - 1);
      const to = Math.min(last, after(reach[1]));
      let least = Infinity;
      for (let k = from; k <= to; k += 1) {
        const ax = scales.x(steps[k]) - px;
        const ay = scales.y(values[k]) - py;
        let far = ax * ax + ay * ay;
        if (k < to) {
          const dx = scales.x(steps[k + 1]) - px - ax;
          const dy = scales.y(values[k + 1]) - py - ay;
          const share = Math.min(1, Math.max(0, -(ax * dx + ay * dy) / (dx * dx + dy * dy)));
          const straight = (ax + share * dx) ** 2 + (ay + share * dy) ** 2;
          if (straight < far) far = straight; // not if it is NaN
        }
        if (far < least) least = far;
      }
      return least;
    }

    pointed(event) { if (event.buttons === 0) hover(this.nearest(event)); }
    clicked(event) { pin(this.nearest(event)); }
  }

  // Parallel coordinates: a curve through a row of axes. A stretch that is drawn on an axis keeps the settings in it.
  class Parallel extends Curves {
    constructor(id, panel) {
      super(id, [panel]);
      this.brushes = new Map();
      this.box.style.minWidth = `${panel.x.length * 110}px`;
    }

    axes() {
      const { panel } = this;
      const last = panel.x.length - 1;
      const names = panel.axes.map((axis) => folded(axis.label));
      return {
        xaxis: { ...axisLook(), range: [-0.15, last + 0.45], tickvals: panel.x, ticktext: names, side: "top", showgrid: false, fixedrange: true, tickangle: 0, ticks: "" },
        yaxis: { range: [panel.low, panel.high], visible: false, fixedrange: true },
      };
    }

    extra() {
      const line = { color: state.colours.soft, width: 1 };
      return {
        dragmode: false, margin: { l: 24, r: 16, t: 56, b: 8 },
        shapes: this.panel.x.map((x) => ({ type: "line", x0: x, x1: x, y0: 0, y1: 1, line, layer: "below" })),
      };
    }
    config() { return { ...CONFIG, displayModeBar: false }; }

    traces() {
      const text = { x: [], y: [], text: [] };
      this.panel.axes.forEach((axis, k) => axis.ticks.forEach(([y, name]) => {
        text.x.push(k + 0.02);
        text.y.push(y);
        text.text.push(folded(name));
      }));
      const ticks = { type: "scatter", mode: "text", textposition: "middle right", cliponaxis: false, name: "ticks", textfont: { size: 11, color: state.colours.soft }, ...text };
      return [...super.traces(), ticks];
    }

    make() {
      super.make();
      let start = null;
      const where = (event) => {
        const frame = this.box.getBoundingClientRect();
        const scales = this.scales();
        const axis = Math.round(scales.step(event.clientX - frame.left));
        return { axis, near: Math.abs(scales.x(axis) - event.clientX + frame.left) < 16, y: scales.height_of(event.clientY - frame.top) };
      };
      this.plot.addEventListener("pointerdown", (event) => {
        const at = where(event);
        start = event.pointerType !== "touch" && at.near && at.axis in this.panel.x ? at : null;
        if (start) event.preventDefault();
      });
      addEventListener("pointermove", (event) => {
        if (start && event.buttons) this.brush(start.axis, start.y, where(event).y);
      });
      addEventListener("pointerup", (event) => {
        if (!start) return;
        // A click on the axis.
        if (Math.abs(where(event).y - start.y) < 0.01) this.brush(start.axis, null, null);
        start = null;
      });
    }

    brush(axis, a, b) {
      if (a === null) this.brushes.delete(axis);
      else this.brushes.set(axis, [Math.min(a, b), Math.max(a, b)]);
      for (let rank = 0; rank < count; rank += 1) {
        state.shown[rank] = 1;
        for (const [k, [low, high]] of this.brushes) {
          const value = this.panel.values[this.panel.starts[rank] + k];
          if (!(value >= low && value <= high)) state.shown[rank] = 0;
        }
      }
      this.mark();
      filtered();
    }

    mark() {
      this.box.querySelectorAll(".brush").forEach((x) => x.remove());
      const scales = this.scales();
      for (const [axis, [low, high]] of this.brushes) {
        const made = element("div", { className: "brush" });
        const top = scales.y(Math.min(high, this.panel.high));
        Object.assign(made.style, { left: `${scales.x(axis)}px`, top: `${top}px`, height: `${scales.y(Math.max(low, this.panel.low)) - top}px` });
        this.box.append(made);
      }
    }

    paint() { super.paint(); this.mark(); }
    clear() { this.brushes.clear(); this.brush(0, null, null); }
  }

  // The seeds of the first settings: a dot for each, and their mean.
  class Spread {
    constructor(id, spread) {
      this.box = byId(id);
      this.plot = this.box.querySelector(".plot");
      this.spread = spread;
    }

    traces() {
      const { spread } = this;
      const { ranks, ink, best, soft } = state.colours;
      const flat = (values) => values.flat();
      const x = flat(spread.values.map((seeds, rank) => seeds.map(() => rank + 1)));
      const colour = flat(spread.values.map((seeds, rank) => seeds.map(() => (rank === data.best ? best : ranks[rank]))));
      const at = spread.values.map((_, rank) => rank + 1);
      const dash = (width) => ({ symbol: "line-ew-open", size: Math.max(8, Math.min(26, 400 / at.length)), line: { width } });
      return [
        { type: "scatter", mode: "markers", name: "seeds", x, y: flat(spread.values), marker: { color: colour, size: 7, opacity: 0.75 } },
        { type: "scatter", mode: "markers", name: "mean", x: at, y: spread.means, marker: { ...dash(2), color: soft } },
        { type: "scatter", mode: "markers", name: "lit", meta: { rank: null }, x: [], y: [], marker: { color: ink, size: 11, symbol: "circle-open", line: { width: 2 } } },
      ];
    }

    layout() {
      const { spread } = this;
      const n = spread.values.length;
      return {
        ...look(), dragmode: false,
        xaxis: { ...axisLook(), title: { text: "rank", standoff: 8 }, range: [0.4, n + 0.6], showgrid: false, fixedrange: true, tickformat: "d", dtick: n <= 12 ? 1 : undefined },
        yaxis: { ...axisLook(), title: { text: plain(spread.label), standoff: 8 }, type: spread.log ? "log" : "linear", fixedrange: true },
      };
    }

    make() {
      Plotly.newPlot(this.plot, this.traces(), this.layout(), { ...CONFIG, displayModeBar: false });
      follow(this.box, this.plot);
      const rank = (event) => {
        const { xaxis } = this.plot._fullLayout;
        const at = (event.clientX - this.box.getBoundingClientRect().left - xaxis._offset) / xaxis._length;
        const found = Math.round(xaxis.range[0] + at * (xaxis.range[1] - xaxis.range[0])) - 1;
        return found >= 0 && found < this.spread.values.length ? found : null;
      };
      this.plot.addEventListener("pointermove", (event) => hover(rank(event)));
      this.plot.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hover(null));
      clicks(this.plot, (event) => pin(rank(event)));
    }

    light(rank) {
      const seeds = this.spread.values[rank] ?? [];
      Plotly.restyle(this.plot, { x: [seeds.map(() => rank + 1)], y: [seeds], meta: [{ rank }] }, [2]);
    }
    recolour() { Plotly.react(this.plot, this.traces(), this.layout()); this.light(state.active); }
    refilter() {}
  }

  // --- the ranking ---------------------------------------------------------------------------------------------------

  class Ranking {
    constructor() {
      this.box = byId("ranking-box");
      this.table = byId("ranking");
      this.body = this.table.tBodies[0];
      this.sorted = { column: 0, down: false };
      this.focused = 0; // the rank whose row the Tab key comes to
      this.height = 0;
    }

    make() {
      const heads = data.columns.map((column, k) => {
        const button = element("button", { type: "button" }, column.label, element("span", { ariaHidden: "true" }));
        button.addEventListener("click", () => this.sort(k));
        const head = element("th", { scope: "col", className: column.number ? "number" : "" }, button);
        if (column.title) button.title = column.title;
        return head;
      });
      this.table.tHead.append(element("tr", {}, ...heads));
      this.box.addEventListener("scroll", () => this.render(), { passive: true });
      addEventListener("resize", () => this.render());
      const rank = (event) => { const row = event.target.closest("tr.row"); return row && Number(row.dataset.rank); };
      this.body.addEventListener("mouseover", (event) => hover(rank(event), "row"));
      this.body.addEventListener("mouseleave", () => hover(null));
      this.body.addEventListener("click", (event) => pin(rank(event), "row"));
      this.body.addEventListener("focusin", (event) => { this.focused = rank(event); hover(this.focused, "row"); });
      this.body.addEventListener("focusout", () => hover(null));
      this.body.addEventListener("keydown", (event) => this.pressed(event));
      this.sort(0);
    }

    sort(k) {
      const again = this.order && this.sorted.column === k;
      this.sorted = { column: k, down: again ? !this.sorted.down : false };
      const { values, number } = data.columns[k];
      const sign = this.sorted.down ? -1 : 1;
      const compare = number ? (a, b) => a - b : (a, b) => (a < b ? -1 : a > b ? 1 : 0);
      this.order = Array.from({ length: count }, (_, rank) => rank).sort((i, j) => {
        const [a, b] = [values[i], values[j]];
        if (a === null || b === null) return (a === null) - (b === null) || i - j; // what is not there comes last, either way
        return sign * compare(a, b) || i - j;
      });
      [...this.table.tHead.rows[0].cells].forEach((head, at) => {
        if (at === k) head.setAttribute("aria-sort", this.sorted.down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
        head.querySelector("span").textContent = at === k ? (this.sorted.down ? "▼" : "▲") : "";
      });
      this.box.scrollTop = 0;
      this.refilter();
    }

    refilter() {
      this.rows = this.order.filter((rank) => state.shown[rank]);
      this.place = new Map(this.rows.map((rank, at) => [rank, at]));
      if (!this.place.has(this.focused)) this.focused = this.rows[0] ?? 0;
      this.table.setAttribute("aria-rowcount", this.rows.length + 1);
      this.render(true);
    }

    // Only the rows in view are in the document; the space of the others is kept by a row above and one below.
    render(fresh = false) {
      const n = this.rows.length;
      if (!this.height) {
        this.body.replaceChildren(...this.rows.slice(0, 20).map((rank, at) => this.row(rank, at)));
        this.height = n ? this.body.getBoundingClientRect().height / Math.min(20, n) : 30;
      }
      const all = n <= 150;
      const first = all ? 0 : Math.max(0, Math.floor(this.box.scrollTop / this.height) - 15);
      const last = all ? n : Math.min(n, first + Math.ceil(this.box.clientHeight / this.height) + 30);
      if (!fresh && first === this.first && last === this.last) return;
      [this.first, this.last] = [first, last];
      const focus = document.activeElement?.closest?.("#ranking tr.row")?.dataset.rank;
      const rows = this.rows.slice(first, last).map((rank, k) => this.row(rank, first + k));
      this.rendering = true; // a row that leaves the document with the focus lets nothing go
      this.body.replaceChildren(this.gap(first), ...rows, this.gap(n - last));
      if (focus !== undefined) this.body.querySelector(`[data-rank="${focus}"]`)?.focus({ preventScroll: true });
      this.rendering = false;
    }

    gap(rows) {
      const cell = element("td", { colSpan: data.columns.length });
      const row = element("tr", { className: "gap", ariaHidden: "true" }, cell);
      cell.style.height = `${rows * this.height}px`;
      row.hidden = rows === 0;
      return row;
    }

    row(rank, at) {
      const cells = data.columns.map((column, k) => {
        const value = column.values[rank];
        const cell = element(k ? "td" : "th", { className: column.number ? "number" : "long" }, shown(value));
        if (!k) cell.scope = "row";
        if (!column.number) cell.title = value ?? "";
        const plus = column.plus?.[rank];
        if (typeof plus === "number") cell.append(element("span", { className: "plus" }, ` ± ${Number(plus.toPrecision(2))}`));
        return cell;
      });
      const row = element("tr", { className: "row", tabIndex: rank === this.focused ? 0 : -1, dataset: { rank } }, ...cells);
      row.setAttribute("aria-rowindex", at + 2);
      row.classList.toggle("lost", lost.has(rank));
      row.classList.toggle("first", rank === data.best);
      this.look(row, rank);
      return row;
    }

    look(row, rank) {
      row.classList.toggle("lit", rank === state.active);
      row.classList.toggle("pinned", rank === state.pinned);
      if (rank === state.active) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }

    light(rank, from) {
      if (rank !== null && from !== "row") this.show(rank);
      for (const row of this.body.querySelectorAll("tr.row")) this.look(row, Number(row.dataset.rank));
    }

    // Scrolls the box, and never the page.
    show(rank) {
      const at = this.place.get(rank);
      if (at === undefined) return;
      const head = this.table.tHead.offsetHeight;
      const top = at * this.height;
      const view = this.box.clientHeight - head;
      if (top < this.box.scrollTop) this.box.scrollTop = top;
      else if (top + this.height > this.box.scrollTop + view) this.box.scrollTop = top + this.height - view;
      this.render();
    }

    pressed(event) {
      const rank = Number(event.target.closest("tr.row")?.dataset.rank);
      if (event.key === "Enter" || event.key === " ") {
        pin(rank, "row");
        event.preventDefault();
        return;
      }
      const at = this.place.get(rank);
      const page = Math.max(1, Math.floor(this.box.clientHeight / this.height) - 2);
      const moves = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: this.rows.length - 1 };
      if (!(event.key in moves)) return;
      event.preventDefault();
      const next = this.rows[Math.max(0, Math.min(this.rows.length - 1, moves[event.key]))];
      this.body.querySelector('[tabindex="0"]')?.setAttribute("tabindex", "-1");
      this.focused = next;
      this.show(next);
      const row = this.body.querySelector(`[data-rank="${next}"]`);
      row.tabIndex = 0;
      row.focus({ preventScroll: true });
    }

    recolour() {}
  }

  // --- what is lit ---------------------------------------------------------------------------------------------------

  const ranking = new Ranking();
  let waiting = null;

  function hover(rank, from = "figure") {
    if (ranking.rendering) return;
    state.hover = rank;
    update(from);
  }

  function pin(rank, from = "figure") {
    state.pinned = rank === state.pinned ? null : rank;
    update(from, true);
  }

  function update(from, always = false) {
    const active = state.hover ?? state.pinned;
    if (active === state.active && !always) return;
    state.active = active;
    ranking.light(active, from);
    readout();
    waiting ??= requestAnimationFrame(() => {
      waiting = null;
      for (const view of views) if (view !== ranking) view.light(state.active);
    });
  }

  function filtered() {
    const left = state.shown.reduce((sum, x) => sum + x, 0);
    // The rows that go leave their room, so that the figure stays where the pointer is.
    const { box } = ranking;
    box.style.minHeight = left === count ? "" : box.style.minHeight || `${box.offsetHeight}px`;
    byId("filter-note").textContent = left < count ? `${shown(left)} of ${shown(count)} settings lie in the chosen stretches; the ranking and the curves show no others.` : "";
    byId("filter-clear").hidden = left === count;
    for (const view of views) view.refilter();
  }

  function readout() {
    const box = byId("readout");
    const rank = state.active ?? data.best;
    if (rank === null) {
      box.replaceChildren(element("p", { className: "note" }, "No setting is pointed at."));
      return;
    }
    const said = data.columns.slice(1).filter((column) => column.values[rank] !== null && column.said);
    const words = said.map((column) => {
      const plus = column.plus?.[rank];
      return `${column.word || column.label} ${shown(column.values[rank])}${typeof plus === "number" ? ` ± ${Number(plus.toPrecision(2))}` : ""}`;
    });
    const name = state.active === null || state.active === undefined ? "Best" : `Rank ${rank + 1}`;
    const kept = rank === state.pinned ? ", kept" : "";
    const expression = element("code", { id: "lit-expression" }, data.expressions[rank]);
    let button = element("span", { className: "note" }, "cut, too long for the page");
    if (!data.cut.includes(rank)) {
      button = element("button", { type: "button", dataset: { copy: "lit-expression" } }, "Copy");
      button.setAttribute("aria-label", "Copy this setting");
    }
    box.replaceChildren(
      element("p", {}, element("strong", {}, `${name}${kept}: `), words.join(", ")),
      element("div", { className: "line" }, expression, button),
    );
  }

  // --- copying -------------------------------------------------------------------------------------------------------

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // An old browser, or one that gives a file no clipboard: what is selected can still be copied.
      const area = element("textarea", { value: text, readOnly: true });
      area.style.cssText = "position:fixed;top:0;opacity:0";
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const done = await copy(byId(button.dataset.copy).textContent);
    button.textContent = done ? "Copied" : "Not copied";
    button.focus();
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });

  // --- all of it -----------------------------------------------------------------------------------------------------

  function panels(id, list) {
    if (!list.length) return;
    const view = new Curves(id, list);
    view.make();
    views.push(view);
    const select = byId(`${id}-select`);
    select?.addEventListener("change", () => {
      view.choose(Number(select.value));
      byId(`${id}-says`).textContent = view.panel.says;
      byId(id).setAttribute("aria-label", view.panel.says);
      view.redraw();
    });
  }

  readColours();
  ranking.make();
  views.push(ranking);
  panels("schedules", data.schedules);
  panels("curves", data.curves);
  if (data.parallel) {
    const view = new Parallel("parallel", data.parallel);
    view.make();
    views.push(view);
    byId("filter-clear").addEventListener("click", () => view.clear());
  }
  if (data.spread) {
    const view = new Spread("spread", data.spread);
    view.make();
    views.push(view);
  }
  readout();
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    state.pinned = state.hover = null;
    update("figure", true);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColours();
    for (const view of views) view.recolour();
  });
  // Where a test reads how long it took.
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
