"use strict";
// Small charts in SVG. hrmChart(parent, options) adds one and returns {draw(points, against)}.
//
// options.title     the caption
// options.lines     [{label, colour, value(point), low(point), high(point), dots}]
// options.stack     (point) => [[label, share], ...] instead of lines: layers that add up to 1; a point without a label
//                   has the share 0
// options.format    (number) => text
// options.top       the largest value of the scale, or nothing for that of the data
// options.bottom    the smallest value of the scale; 0 by default

const hrmChart = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  // Room for the labels of the axes.
  const LEFT = 46, RIGHT = 10, TOP = 8, BOTTOM = 20;

  function add(parent, name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  function html(parent, name, text, style) {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (style) element.className = style;
    parent.append(element);
    return element;
  }

  // A round number of at least `value`: 1, 2, 2.5 or 5 times a power of ten.
  function roundUp(value) {
    if (!(value > 0)) return 1;
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 2.5, 5, 10].find((factor) => factor * power >= value * 0.999999) * power;
  }

  function short(value) {
    if (value >= 1e6) return `${+(value / 1e6).toPrecision(3)} M`;
    if (value >= 1e4) return `${+(value / 1e3).toPrecision(3)} k`;
    return `${+value.toPrecision(3)}`;
  }

  const known = (value) => typeof value === "number" && Number.isFinite(value);

  function chart(parent, options) {
    const figure = html(parent, "figure", undefined, options.wide ? "chart wide" : "chart");
    const caption = html(figure, "figcaption");
    html(caption, "strong", options.title);
    const legend = html(caption, "ul");
    const svg = add(figure, "svg", { role: "img", "aria-label": options.title });
    const format = options.format || short;
    let points = [], against = "frames", scale = null;

    const size = () => {
      const width = Math.max(240, Math.round(svg.clientWidth || figure.clientWidth || 600));
      return { width, height: options.wide ? Math.max(200, Math.min(300, width * 0.3)) : 170 };
    };

    function scales() {
      const { width, height } = size();
      const last = Math.max(...points.map((point) => point[against]), 0);
      const first = Math.min(...points.map((point) => point[against]), last);
      const bottom = options.bottom || 0;
      let top = options.top;
      if (top === undefined) {
        const values = options.lines.flatMap((line) => points.map(line.value).filter(known));
        top = bottom + roundUp(Math.max(...values, bottom) - bottom);
      }
      const span = last - first || 1;
      return {
        width, height, first, last, bottom, top,
        x: (point) => LEFT + (points.length > 1 ? (point[against] - first) / span : 1) * (width - LEFT - RIGHT),
        y: (value) => {
          const share = Math.min(1, Math.max(0, (value - bottom) / (top - bottom)));
          return height - BOTTOM - share * (height - TOP - BOTTOM);
        },
      };
    }

    function axes() {
      const { width, height, first, last, bottom, top, y } = scale;
      for (const share of [0, 0.5, 1]) {
        const value = bottom + share * (top - bottom);
        add(svg, "line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) });
        add(svg, "text", { class: "y", x: LEFT - 6, y: y(value) + 4 }, format(value));
      }
      if (!points.length) return;
      const unit = against === "minutes" ? " min" : "";
      add(svg, "text", { class: "x first", x: LEFT, y: height - 5 }, short(first) + unit);
      if (last > first) {
        add(svg, "text", { class: "x", x: (LEFT + width - RIGHT) / 2, y: height - 5 }, short((first + last) / 2) + unit);
        add(svg, "text", { class: "x last", x: width - RIGHT, y: height - 5 }, short(last) + unit);
      }
    }

    function drawLine(line) {
      const { x, y } = scale;
      const shown = points.filter((point) => known(line.value(point)));
      if (line.low) {
        const ends = shown.map((point) => `${x(point)},${y(line.high(point))}`);
        const starts = shown.map((point) => `${x(point)},${y(line.low(point))}`).reverse();
        if (shown.length > 1) add(svg, "polygon", { class: "band", points: ends.concat(starts).join(" ") });
      }
      const at = shown.map((point) => `${x(point)},${y(line.value(point))}`);
      if (at.length > 1) add(svg, "polyline", { class: line.colour, points: at.join(" ") });
      const dots = (line.dots && shown.length <= 60) || shown.length === 1 ? shown : [];
      for (const point of dots) add(svg, "circle", { class: line.colour, cx: x(point), cy: y(line.value(point)), r: 3 });
      return shown.length;
    }

    function drawStack() {
      const { x, y } = scale;
      const shown = points.filter((point) => options.stack(point).length);
      if (!shown.length) return 0;
      // Runs that were resumed with another release can have other stages in earlier records.
      const shares = shown.map((point) => new Map(options.stack(point)));
      const labels = new Set(shares.flatMap((share) => [...share.keys()]));
      // A single point is drawn as a column.
      const place = (at) => (shown.length > 1 ? [x(shown[at])] : [LEFT, scale.width - RIGHT]);
      const edge = (heights) => heights.flatMap((value, at) => place(at).map((left) => `${left},${y(value)}`));
      let below = shown.map(() => 0);
      for (const label of labels) {
        const above = below.map((value, at) => value + (shares[at].get(label) || 0));
        const outline = edge(above).concat(edge(below).reverse());
        add(svg, "polygon", { class: `stage-${label}`, points: outline.join(" ") });
        below = above;
      }
      return shown.length;
    }

    // The legend gives the values of a point: the newest, or the one below the pointer.
    function describe(point) {
      const items = options.stack
        ? (point ? options.stack(point) : []).map(([label, share]) => [label, format(share), `stage-${label}`])
        : options.lines.map((line) => {
            const given = point ? [point] : points.filter((point) => known(line.value(point))).slice(-1);
            const value = given.length ? line.value(given[0]) : undefined;
            return [line.label, known(value) ? format(value) : "–", line.colour];
          });
      legend.replaceChildren();
      for (const [label, value, colour] of items) html(legend, "li", `${label} ${value}`, colour);
    }

    function draw(given, unit) {
      if (given) points = given;
      if (unit) against = unit;
      scale = scales();
      svg.setAttribute("viewBox", `0 0 ${scale.width} ${scale.height}`);
      svg.replaceChildren();
      axes();
      const drawn = options.stack
        ? drawStack()
        : options.lines.map(drawLine).reduce((most, count) => Math.max(most, count), 0);
      svg.dataset.points = drawn;
      if (!drawn) add(svg, "text", { class: "none", x: scale.width / 2, y: scale.height / 2 }, options.none || "no data yet");
      describe(options.stack ? points.filter((point) => options.stack(point).length).slice(-1)[0] : undefined);
    }

    svg.addEventListener("pointermove", (event) => {
      if (!scale || !points.length) return;
      const left = event.clientX - svg.getBoundingClientRect().left;
      const gap = (point) => Math.abs(scale.x(point) - left);
      const shows = (point) => (options.stack ? options.stack(point).length : options.lines.some((line) => known(line.value(point))));
      const near = points.filter(shows).reduce((best, point) => (best && gap(best) <= gap(point) ? best : point), null);
      if (!near) return;
      svg.querySelector(".cursor")?.remove();
      add(svg, "line", { class: "cursor", x1: scale.x(near), x2: scale.x(near), y1: TOP, y2: scale.height - BOTTOM });
      describe(near);
    });
    svg.addEventListener("pointerleave", () => draw());
    return { draw };
  }

  return chart;
})();
