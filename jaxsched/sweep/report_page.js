"use strict";
// A setting is known by its rank, from 0, and every array of the data is in the order of the ranks.
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const { count, best } = data;
  const ranks = Array.from({ length: count }, (_, rank) => rank);
  const lost = new Set(data.lost);
  const MANY = 48; // curves that are drawn strongly; the rest are pale
  const REACH = 28; // pixels from the pointer to the curve that it selects
  const touch = matchMedia("(pointer: coarse)").matches;
  const state = { hover: null, pinned: null, active: null, shown: new Uint8Array(count).fill(1), colours: {} };
  const charts = []; // each has light(rank) and draw()

  // --- data and colours ----------------------------------------------------------------------------------------------

  const bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0)).buffer;

  // The points of all curves one after the other: those of a rank are from starts[rank] to starts[rank + 1].
  function unpack(panel) {
    const { x, sizes, unit } = panel;
    panel.values = new Float32Array(bytes(panel.y));
    panel.steps = x ? Float64Array.from(panel.values, (_, k) => x[k % x.length]) : Float64Array.from(new Int32Array(bytes(panel.steps)), (step) => step * unit);
    panel.starts = [0];
    for (const rank of ranks) panel.starts.push(panel.starts[rank] + (x ? x.length : sizes[rank]));
  }

  function points(panel, rank) {
    if (rank === null || !panel) return { x: [], y: [] };
    const part = (all) => Array.from(all.subarray(panel.starts[rank], panel.starts[rank + 1]));
    return { x: part(panel.steps), y: part(panel.values) };
  }

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(`--${name}`).trim();
    for (const name of ["ink", "soft", "line", "mesh", "best", "lost", "accent"]) state.colours[name] = read(name);
    const stops = [0, 1, 2, 3, 4].map((k) => read(`rank-${k}`).match(/[0-9a-f]{2}/gi).map((x) => parseInt(x, 16)));
    state.colours.ranks = ranks.map((rank) => {
      const at = (4 * rank) / Math.max(1, count - 1);
      const k = Math.min(3, Math.floor(at));
      return `rgb(${stops[k].map((x, c) => Math.round(x + (stops[k + 1][c] - x) * (at - k))).join()})`;
    });
  }

  // Plotly reads tags in its texts, and the names of users are plain text.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  const title = (text) => ({ text: plain(text), standoff: 8 });
  const axis = (more) => ({
    gridcolor: state.colours.mesh, linecolor: state.colours.line, tickcolor: state.colours.line,
    zeroline: false, automargin: true, exponentformat: "e", ...more,
  });
  const layout = (more) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", showlegend: false,
    font: { color: state.colours.ink, family: getComputedStyle(document.body).fontFamily, size: 12 },
    margin: { l: 52, r: 12, t: 24, b: 40 }, dragmode: touch ? false : "zoom", ...more,
  });
  const config = { displayModeBar: false, doubleClick: "reset", responsive: true };

  // --- curves --------------------------------------------------------------------------------------------------------

  // All curves are drawn on a canvas under plotly's axes, and only the highlighted ones are traces of plotly: so
  // thousands of curves cost one drawing, and highlighting one costs a restyle of a few hundred points.
  class Curves {
    constructor(id, panels) {
      this.box = byId(id);
      [this.canvas, this.plot] = this.box.children;
      this.panels = panels;
      panels.forEach(unpack);
      this.choose(0);
      this.plot.on("plotly_afterplot", () => this.paint());
      this.plot.addEventListener("pointermove", (event) => event.buttons === 0 && hover(this.nearest(event)));
      this.plot.addEventListener("pointerdown", (event) => hover(this.nearest(event)));
      this.plot.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hover(null));
      charts.push(this);
    }

    choose(index) {
      this.panel = this.panels[index];
      this.beside = this.panels[this.panel.other];
      this.draw();
    }

    draw() {
      Plotly.react(this.plot, this.traces(), this.layout(), config);
      this.repaint();
    }

    layout() {
      const { label, log, low, high, ends } = this.panel;
      const range = log ? [Math.log10(low), Math.log10(high)] : [low, high];
      const along = ends[0] < ends[1] ? ends : [ends[0] - 1, ends[0] + 1];
      return layout({
        xaxis: axis({ title: title("step"), range: along }),
        yaxis: axis({ title: title(label), range, type: log ? "log" : "linear", dtick: !log ? null : range[1] - range[0] > 1.5 ? 1 : "D2" }),
      });
    }

    traces() {
      const { ends } = this.panel;
      const line = (rank, panel, line) => ({
        ...points(panel, rank), type: "scatter", mode: ends[0] < ends[1] ? "lines" : "markers", meta: { rank },
        line: { simplify: false, ...line }, marker: { color: line.color, size: 8 }, hovertemplate: "%{x}: %{y:.4g}<extra></extra>",
      });
      const { ink, best: red } = state.colours;
      const dash = "4px,3px";
      return [
        line(best, this.panel, { color: red, width: 2.5 }), line(best, this.beside, { color: red, width: 1.5, dash }),
        line(state.active, this.panel, { color: ink, width: 3 }), line(state.active, this.beside, { color: ink, width: 1.5, dash }),
      ];
    }

    light(rank) {
      const both = [points(this.panel, rank), points(this.beside, rank)];
      Plotly.restyle(this.plot, { x: both.map(({ x }) => x), y: both.map(({ y }) => y), meta: [{ rank }, { rank }] }, [2, 3]);
    }

    repaint() { this.drawn = ""; this.paint(); }

    // From data to pixels of the box, and the step at a pixel.
    scales() {
      const { xaxis, yaxis } = this.plot._fullLayout;
      const { log } = this.panel;
      return {
        xaxis, yaxis,
        x: (step) => xaxis._offset + xaxis.l2p(step),
        y: (value) => yaxis._offset + yaxis.l2p(log ? Math.log10(value) : value),
        step: (pixel) => xaxis.p2l(pixel - xaxis._offset),
      };
    }

    paint() {
      const { clientWidth: wide, clientHeight: high } = this.box;
      const { xaxis, yaxis, x, y } = this.scales();
      const now = [wide, high, ...[xaxis, yaxis].flatMap((a) => [a._offset, a._length, ...a.range])].join();
      if (now === this.drawn) return; // a curve was highlighted, and the axes are as they were
      this.drawn = now;
      const { steps, values, starts, ends } = this.panel;
      const dense = window.devicePixelRatio;
      Object.assign(this.canvas, { width: wide * dense, height: high * dense });
      const pen = this.canvas.getContext("2d");
      pen.scale(dense, dense);
      pen.rect(xaxis._offset, yaxis._offset, xaxis._length, yaxis._length);
      pen.clip();
      pen.lineJoin = pen.lineCap = "round";
      for (const rank of ranks.toReversed()) {
        if (!state.shown[rank]) continue;
        const pale = rank >= MANY;
        pen.strokeStyle = lost.has(rank) ? state.colours.lost : state.colours.ranks[rank];
        pen.globalAlpha = (pale ? Math.max(0.12, 0.8 * Math.sqrt(MANY / count)) : 0.85) * (lost.has(rank) ? 0.7 : 1);
        pen.lineWidth = ends[0] === ends[1] ? 5 : pale ? 0.8 : 1.3;
        pen.beginPath();
        let before = false;
        for (let k = starts[rank]; k < starts[rank + 1]; k += 1) {
          const height = y(values[k]);
          const there = Math.abs(height) < 1e7; // neither NaN nor the logarithm of 0
          if (there && !before) pen.moveTo(x(steps[k]), height);
          if (there) pen.lineTo(x(steps[k]), height);
          before = there;
        }
        pen.stroke();
      }
    }

    // The rank of the curve nearest to the pointer, above or below it, or null.
    nearest(event) {
      const frame = this.box.getBoundingClientRect();
      const [px, py] = [event.clientX - frame.left, event.clientY - frame.top];
      const { x, y, step, xaxis } = this.scales();
      if (px < xaxis._offset - 8 || px > xaxis._offset + xaxis._length + 8) return null;
      const { steps, values, starts } = this.panel;
      const here = step(px);
      let [found, least] = [null, REACH];
      for (const rank of ranks) {
        if (!state.shown[rank] || starts[rank] === starts[rank + 1]) continue;
        let [low, high] = [starts[rank], starts[rank + 1] - 1]; // the last point not after the pointer
        while (low < high) {
          const middle = (low + high + 1) >> 1;
          if (steps[middle] <= here) low = middle;
          else high = middle - 1;
        }
        const next = Math.min(low + 1, starts[rank + 1] - 1);
        const share = Math.min(1, Math.max(0, (here - steps[low]) / (steps[next] - steps[low] || 1)));
        const [a, b] = [y(values[low]), y(values[next])];
        const aside = Math.max(0, x(steps[starts[rank]]) - px, px - x(steps[starts[rank + 1] - 1]));
        const far = Math.hypot(aside, (share ? a + share * (b - a) : a) - py);
        if (far < least - 1e-6) [found, least] = [rank, far];
      }
      return found;
    }
  }

  // Parallel coordinates: a curve through a row of axes. A selection of plotly on an axis filters the settings.
  class Parallel extends Curves {
    constructor(id, panel) {
      super(id, [panel]);
      this.box.style.minWidth = `${panel.x.length * 110}px`;
      this.plot.on("plotly_relayout", () => this.filter());
      this.plot.on("plotly_deselect", () => this.filter());
      byId("filter-clear").addEventListener("click", () => Plotly.relayout(this.plot, { selections: [] }));
    }

    layout() {
      const { x, axes, low, high } = this.panel;
      const { soft, accent } = state.colours;
      return layout({
        xaxis: axis({ range: [-0.15, x.length - 0.55], tickvals: x, ticktext: axes.map(({ label }) => label), side: "top", showgrid: false, fixedrange: true, tickangle: 0, ticks: "" }),
        yaxis: { range: [low, high], visible: false, fixedrange: true },
        shapes: x.map((at) => ({ type: "line", x0: at, x1: at, y0: 0, y1: 1, line: { color: soft, width: 1 }, layer: "below" })),
        margin: { l: 24, r: 16, t: 56, b: 8 }, hovermode: false, dragmode: touch ? false : "select", selectdirection: "d",
        newselection: { line: { color: accent, width: 3, dash: "solid" } }, selections: this.plot.layout?.selections ?? [],
      });
    }

    traces() {
      const ticks = this.panel.axes.flatMap(({ ticks: all }, k) => all.map(([height, text]) => [k + 0.02, height, text]));
      const [x, y, text] = [0, 1, 2].map((k) => ticks.map((tick) => tick[k]));
      const font = { size: 11, color: state.colours.soft };
      const rest = { textposition: "middle right", cliponaxis: false, textfont: font, unselected: { textfont: { color: font.color } } };
      return [...super.traces(), { type: "scatter", mode: "text", x, y, text, ...rest }];
    }

    filter() {
      // A box without width is a path for plotly: the corners of both are taken from their numbers.
      const boxes = (this.plot.layout.selections ?? []).map(({ x0, y0, x1, y1, path }) => {
        const corners = path ? path.match(/-?[\d.]+(e-?\d+)?/g).map(Number) : [x0, y0, x1, y1];
        const [along, heights] = [0, 1].map((k) => corners.filter((_, i) => i % 2 === k));
        return { axes: [Math.min(...along), Math.max(...along)].map(Math.round), low: Math.min(...heights), high: Math.max(...heights) };
      });
      const { values, starts } = this.panel;
      const inside = (rank) => boxes.every(({ axes: [first, last], low, high }) => (
        values.subarray(starts[rank] + first, starts[rank] + last + 1).every((value) => value >= low && value <= high)));
      for (const rank of ranks) state.shown[rank] = inside(rank);
      filtered();
    }
  }

  // The seeds of the first settings: a dot for each, and a dash for the mean.
  class Seeds {
    constructor(id, spread) {
      this.plot = byId(id).querySelector(".plot");
      this.spread = spread;
      this.draw();
      this.plot.on("plotly_hover", ({ points: [point] }) => hover(point.x - 1));
      this.plot.on("plotly_unhover", () => hover(null));
      charts.push(this);
    }

    draw() {
      const { label, log, x, y, means } = this.spread;
      const { soft, ink, best: red } = state.colours;
      const dots = (more, marker) => ({ type: "scatter", mode: "markers", hovertemplate: "rank %{x}: %{y:.4g}<extra></extra>", marker, ...more });
      const colour = x.map((at) => (at - 1 === best ? red : state.colours.ranks[at - 1]));
      const dash = { symbol: "line-ew-open", size: Math.max(8, Math.min(26, 400 / means.length)), line: { width: 2 } };
      const traces = [
        dots({ x, y }, { color: colour, size: 7, opacity: 0.75 }),
        dots({ x: means.map((_, rank) => rank + 1), y: means }, { ...dash, color: soft }),
        dots({ ...this.lit(state.active), hoverinfo: "skip" }, { color: ink, size: 11, symbol: "circle-open", line: { width: 2 } }),
      ];
      Plotly.react(this.plot, traces, layout({
        dragmode: false,
        xaxis: axis({ title: title("rank"), range: [0.4, means.length + 0.6], showgrid: false, fixedrange: true, tickformat: "d", dtick: means.length <= 12 ? 1 : null }),
        yaxis: axis({ title: title(label), type: log ? "log" : "linear", fixedrange: true }),
      }), config);
    }

    lit(rank) {
      const y = this.spread.y.filter((_, k) => this.spread.x[k] - 1 === rank);
      return { x: y.map(() => rank + 1), y };
    }

    light(rank) {
      const { x, y } = this.lit(rank);
      Plotly.restyle(this.plot, { x: [x], y: [y] }, [2]);
    }
  }

  // --- the ranking ---------------------------------------------------------------------------------------------------

  const table = byId("ranking");
  const box = byId("ranking-box");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows]; // by rank
  const rankOf = (event) => Number(event.target.closest("tr").dataset.rank);

  function sort(k) {
    const down = heads[k].ariaSort === "ascending" ? -1 : 1;
    const number = heads[k].className === "number";
    const keys = rows.map((row) => row.cells[k].textContent).map((text) => (number ? parseFloat(text.replaceAll(",", "")) : text));
    const missing = keys.map((key) => key === "–" || Number.isNaN(key));
    const order = ranks.toSorted((i, j) => missing[i] - missing[j] || down * ((keys[i] > keys[j]) - (keys[i] < keys[j])) || i - j);
    body.append(...order.map((rank) => rows[rank]));
    for (const head of heads) head.ariaSort = null;
    heads[k].ariaSort = down < 0 ? "descending" : "ascending";
    box.scrollTop = 0;
  }

  // Scrolls the box, and never the page.
  function reveal(row) {
    const [top, view] = [row.offsetTop - table.tHead.offsetHeight, box.clientHeight - table.tHead.offsetHeight];
    box.scrollTop = Math.min(top, Math.max(box.scrollTop, top + row.offsetHeight - view));
  }

  heads.forEach((head, k) => head.firstChild.addEventListener("click", () => sort(k)));
  body.addEventListener("pointerover", (event) => hover(rankOf(event), false));
  body.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hover(null));
  body.addEventListener("focusout", () => hover(null));
  body.addEventListener("focusin", (event) => {
    for (const row of body.querySelectorAll('[tabindex="0"]')) row.tabIndex = -1;
    event.target.tabIndex = 0;
    hover(rankOf(event));
  });
  body.addEventListener("keydown", (event) => {
    const seen = [...body.rows].filter((row) => !row.hidden);
    const at = seen.indexOf(event.target);
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 10, PageUp: at - 10, Home: 0, End: count };
    if (event.key === "Enter" || event.key === " ") pin(rankOf(event));
    else if (event.key in moves) seen[Math.max(0, Math.min(seen.length - 1, moves[event.key]))].focus({ preventScroll: true });
    else return;
    event.preventDefault();
  });

  function filtered() {
    box.style.minHeight ||= `${box.offsetHeight}px`; // what is below keeps its place
    for (const rank of ranks) rows[rank].hidden = !state.shown[rank];
    const left = state.shown.reduce((sum, x) => sum + x, 0);
    byId("filter-note").textContent = left < count ? `${left} of ${count} settings are selected; the ranking and the curves show no others.` : "";
    byId("filter-clear").hidden = left === count;
    for (const chart of charts) chart.repaint?.();
  }

  // --- what is highlighted -------------------------------------------------------------------------------------------

  let waiting = null;

  function hover(rank, scroll = true) {
    state.hover = rank;
    update(scroll);
  }

  function pin(rank) {
    state.pinned = rank === state.pinned ? null : rank;
    update(true);
  }

  function update(scroll) {
    const active = state.hover ?? state.pinned;
    for (const row of body.querySelectorAll(".lit, .pinned")) row.classList.remove("lit", "pinned");
    if (state.pinned !== null) rows[state.pinned].classList.add("pinned");
    if (active !== null) rows[active].classList.add("lit");
    if (active !== null && active !== state.active && scroll) reveal(rows[active]);
    const changed = active !== state.active;
    state.active = active;
    readout();
    if (changed) waiting ??= requestAnimationFrame(() => {
      waiting = null;
      for (const chart of charts) chart.light(state.active);
    });
  }

  function readout() {
    const rank = state.active ?? best;
    byId("readout-name").textContent = rank === null ? "No setting is highlighted." : `${state.active === null ? "Best" : `Rank ${rank + 1}`}${rank === state.pinned ? ", kept" : ""}:`;
    const cells = rank === null ? [] : [...rows[rank].cells].map((cell) => cell.textContent);
    const words = heads.map((head, k) => [head.dataset.word, cells[k] ?? "–"]).filter(([word, text]) => word && text !== "–");
    byId("readout-words").textContent = words.map((pair) => pair.join(" ")).join(", ");
    byId("lit-expression").textContent = rank === null ? "" : data.expressions[rank];
    document.querySelector("[data-copy=lit-expression]").hidden = rank === null;
  }

  // --- the page ------------------------------------------------------------------------------------------------------

  // Plotly covers the page while a button is down, so a click does not reach the figure.
  let down = null;
  addEventListener("pointerdown", (event) => { down = event.target.closest(".plot, #ranking tbody") && event; });
  addEventListener("pointercancel", () => { down = null; });
  addEventListener("pointerup", (event) => {
    if (down && state.hover !== null && Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) < 5) pin(state.hover);
    down = null;
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    state.pinned = null;
    hover(null);
  });

  // The way that works in a file and on a server without HTTPS too.
  document.addEventListener("click", ({ target }) => {
    if (!target.dataset.copy) return;
    getSelection().selectAllChildren(byId(target.dataset.copy));
    target.textContent = document.execCommand("copy") ? "Copied" : "Not copied";
    setTimeout(() => { target.textContent = "Copy"; }, 2000);
  });

  readColours();
  for (const id of ["schedules", "curves"].filter((name) => data[name].length)) {
    const view = new Curves(id, data[id]);
    byId(`${id}-select`)?.addEventListener("change", ({ target }) => {
      view.choose(Number(target.value));
      byId(`${id}-says`).textContent = view.box.ariaLabel = view.panel.says;
    });
  }
  if (data.parallel) new Parallel("parallel", data.parallel);
  if (data.spread) new Seeds("spread", data.spread);
  readout();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColours();
    for (const chart of charts) chart.draw();
  });
  document.documentElement.dataset.ready = Math.round(performance.now()); // for tests
})();
