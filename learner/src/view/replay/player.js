// The replay player: fills an element with a player for a recording (recording.rs has its form).
//
//     const player = hrmReplay(container, recording);
//     player.show(0, 12);    // episode 0, before its step 12
//
// It needs nothing but a browser, writes no style attributes, and keeps to a strict content security policy.
"use strict";

window.hrmReplay = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const CELL = 24;
  // Row and column steps of the actions north, east, south, west.
  const MOVES = [[-1, 0], [0, 1], [1, 0], [0, -1]];
  const ACTIONS = ["north", "east", "south", "west"];
  const SPEEDS = [1, 2, 4, 8, 16];
  // Steps for which a finished episode stays before the next one begins.
  const REST = 6;

  const html = (tag, properties = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in element) element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };

  const svg = (tag, attributes = {}, ...children) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  const closed = (glyph) => glyph === "#" || glyph === "D";
  const cellsAt = (walk, step) => (step < walk.steps.length ? walk.steps[step].cells : walk.last);
  const thoughtAt = (walk, step) => {
    const at = walk.steps[step];
    return at && at.probabilities ? at : null;
  };
  const bytes = (hex) => hex.match(/../g).map((pair) => parseInt(pair, 16));

  // The cells that are closed in one frame of an episode and open in another.
  const doorsOf = (walks) => {
    const doors = new Set();
    for (const walk of walks) {
      const first = cellsAt(walk, 0);
      for (let step = 0; step <= walk.steps.length; step += 1) {
        const cells = cellsAt(walk, step);
        for (let cell = 0; cell < cells.length; cell += 1) {
          if (cells[cell] === "D" || closed(cells[cell]) !== closed(first[cell])) doors.add(cell);
        }
      }
    }
    return doors;
  };

  const centre = (recording, cell) => [
    ((cell % recording.width) + 0.5) * CELL,
    (Math.floor(cell / recording.width) + 0.5) * CELL,
  ];

  const square = (recording, cell, inset, attributes) => {
    const [x, y] = centre(recording, cell);
    const side = CELL - 2 * inset;
    return svg("rect", { x: x - side / 2, y: y - side / 2, width: side, height: side, ...attributes });
  };

  const board = (recording, label) =>
    svg("svg", {
      viewBox: `-2 -2 ${recording.width * CELL + 4} ${recording.height * CELL + 4}`,
      role: "img",
      "aria-label": label,
    });

  const agentCells = (walk, step) => {
    const path = [];
    for (let at = 0; at <= Math.min(step, walk.steps.length); at += 1) path.push(cellsAt(walk, at).indexOf("A"));
    return path;
  };

  const line = (recording, path, name) =>
    svg("polyline", { class: name, points: path.map((cell) => centre(recording, cell).join(",")).join(" ") });

  // An arrow from the agent's cell, as long as the action is probable.
  const arrow = (recording, agent, action, probability, taken) => {
    const [x, y] = centre(recording, agent);
    const [down, right] = MOVES[action];
    const from = CELL * 0.42;
    const length = CELL * (0.12 + 0.9 * probability);
    const tip = [x + right * (from + length), y + down * (from + length)];
    const side = CELL * 0.15;
    const base = [x + right * from, y + down * from];
    const points = [
      [base[0] + down * side, base[1] + right * side],
      tip,
      [base[0] - down * side, base[1] - right * side],
    ];
    return svg(
      "polygon",
      { class: taken ? "arrow taken" : "arrow", opacity: 0.25 + 0.75 * probability, points: points.join(" ") },
      svg("title", {}, `${ACTIONS[action]} ${(100 * probability).toFixed(1)}%`),
    );
  };

  const drawMaze = (recording, episode, doors, walk, step, picture) => {
    const cells = cellsAt(walk, step);
    const parts = [
      svg("rect", { class: "floor", width: recording.width * CELL, height: recording.height * CELL }),
    ];
    for (let cell = 0; cell < cells.length; cell += 1) {
      const glyph = cells[cell];
      if (doors.has(cell)) parts.push(square(recording, cell, 1, { class: closed(glyph) ? "door shut" : "door" }));
      else if (closed(glyph)) parts.push(square(recording, cell, 0, { class: "wall" }));
      if (glyph === "G") parts.push(svg("circle", { class: "goal", r: CELL * 0.3, ...at(centre(recording, cell)) }));
    }
    if (episode.oracle) {
      const path = agentCells(episode.oracle, step);
      parts.push(line(recording, agentCells(episode.oracle, Infinity), "oracle whole"), line(recording, path, "oracle"));
      parts.push(svg("circle", { class: "ghost", r: CELL * 0.2, ...at(centre(recording, path[path.length - 1])) }));
    }
    const path = agentCells(walk, step);
    const agent = path[path.length - 1];
    parts.push(line(recording, path, "path"));
    const thought = thoughtAt(walk, step);
    if (thought) {
      thought.probabilities.forEach((probability, action) => {
        parts.push(arrow(recording, agent, action, probability, action === walk.steps[step].action));
      });
    } else if (step < walk.steps.length) {
      parts.push(arrow(recording, agent, walk.steps[step].action, 1, true));
    }
    parts.push(svg("circle", { class: "agent", r: CELL * 0.34, ...at(centre(recording, agent)) }));
    picture.replaceChildren(...parts);
  };

  const at = ([cx, cy]) => ({ cx, cy });

  const drawChange = (recording, walk, step, part, picture) => {
    const cells = cellsAt(walk, step);
    const thought = thoughtAt(walk, step);
    const changes = thought ? bytes(thought[part]) : [];
    const parts = [svg("rect", { class: "cold", width: recording.width * CELL, height: recording.height * CELL })];
    for (let cell = 0; cell < cells.length; cell += 1) {
      // The square root shows small changes too; the first decision of an episode changes most.
      const change = Math.sqrt(changes[cell] / 255);
      if (change > 0) parts.push(square(recording, cell, 0, { class: part, opacity: change.toFixed(3) }));
      if (closed(cells[cell])) parts.push(square(recording, cell, CELL * 0.42, { class: "mark" }));
    }
    parts.push(svg("circle", { class: "outline", r: CELL * 0.34, ...at(centre(recording, cells.indexOf("A"))) }));
    picture.replaceChildren(...parts);
  };

  const moves = (count) => `${count} ${count === 1 ? "step" : "steps"}`;

  // One walk: its maze, and where the model's state changes.
  const figure = (recording, name) => {
    const picture = board(recording, `the maze as ${name} crosses it`);
    const caption = html("figcaption");
    const value = html("p", { className: "value" });
    const changes = {};
    const element = html("figure", {}, html("div", { className: "maze" }, caption, picture, value));
    if (recording.scale) {
      const row = html("div", { className: "changes" });
      for (const [part, title] of [["z_h", "zH"], ["z_l", "zL"]]) {
        changes[part] = board(recording, `change of ${title} at every cell`);
        row.append(html("div", {}, changes[part], html("p", {}, `change of ${title}`)));
      }
      element.append(row);
    }
    const draw = (episode, doors, walk, step) => {
      const reached = walk.outcome === "goal";
      const end = reached ? `goal after ${moves(walk.steps.length)}` : `not solved in ${moves(walk.steps.length)}`;
      caption.replaceChildren(html("strong", {}, name), html("span", { className: reached ? "" : "failed" }, end));
      drawMaze(recording, episode, doors, walk, step, picture);
      for (const part of Object.keys(changes)) drawChange(recording, walk, step, part, changes[part]);
      const thought = thoughtAt(walk, step);
      const left = Math.min(step, walk.steps.length);
      const state = step >= walk.steps.length ? (reached ? "at the goal" : "out of steps") : `step ${left + 1}`;
      const { segments } = walk.steps[step] || {};
      const figures = [state];
      if (thought) figures.push(`value ${thought.value.toFixed(3)}`);
      if (segments) figures.push(segments === 1 ? "1 segment" : `${segments} segments`);
      value.textContent = figures.join(" · ");
    };
    return { element, draw };
  };

  const legend = (recording) => {
    const entry = (name, text) => html("li", { className: name }, text);
    const entries = [entry("agent", "agent"), entry("goal", "goal"), entry("door", "door, closed while filled")];
    if (recording.scale) entries.push(entry("arrow", "probability of each move"));
    if (recording.episodes.some((episode) => episode.oracle)) {
      entries.push(entry("oracle", "the oracle in the same maze"));
    }
    return html("ul", { className: "legend" }, ...entries);
  };

  return (container, recording) => {
    const figures = recording.walkers.map((name) => figure(recording, name));
    const name = (episode) => {
      const oracle = episode.oracle ? `, oracle ${episode.oracle.steps.length}` : "";
      const lengths = episode.walks.map((walk) => walk.steps.length).join(" and ");
      return `${episode.index + 1}: ${episode.why.join(", ")} (${lengths} steps${oracle})`;
    };
    const episodes = html(
      "select",
      { title: "episode (up and down arrow)" },
      ...recording.episodes.map((episode, place) => html("option", { value: place }, name(episode))),
    );
    const scrubber = html("input", { type: "range", min: 0, step: 1, title: "step (left and right arrow)" });
    const counter = html("output");
    const button = (text, title, act) => html("button", { type: "button", title, onclick: act }, text);
    const play = button("Play", "play or pause (space)", () => toggle());
    const speeds = html("select", { title: "steps per second (+ and -)" });
    SPEEDS.forEach((speed) => speeds.append(html("option", { value: speed }, `${speed} steps/s`)));
    speeds.value = 4;
    const root = html(
      "div",
      { className: figures.length === 1 ? "hrm-replay single" : "hrm-replay", tabIndex: 0 },
      html("div", { className: "bar" }, html("label", {}, "episode ", episodes), speeds),
      html("div", { className: "figures" }, ...figures.map((figure) => figure.element)),
      html(
        "div",
        { className: "bar" },
        button("|◀", "first step (Home)", () => go(0)),
        button("◀", "back (left arrow)", () => go(player.step - 1)),
        play,
        button("▶", "forward (right arrow)", () => go(player.step + 1)),
        scrubber,
        counter,
      ),
      legend(recording),
    );
    let doors = new Set();
    let timer = null;
    let resting = 0;

    const player = {
      episode: 0,
      step: 0,
      get length() {
        const current = recording.episodes[player.episode];
        return Math.max(...current.walks.map((walk) => walk.steps.length));
      },
      play() {
        if (timer === null) start();
      },
      show(episode, step) {
        const place = Math.max(0, Math.min(episode, recording.episodes.length - 1));
        const current = recording.episodes[place];
        if (place !== player.episode || doors.size === 0) doors = doorsOf(current.walks);
        player.episode = place;
        player.step = Math.max(0, Math.min(step, player.length));
        episodes.value = place;
        scrubber.max = player.length;
        scrubber.value = player.step;
        counter.textContent = `${player.step} / ${player.length}`;
        figures.forEach((figure, walker) => figure.draw(current, doors, current.walks[walker], player.step));
      },
    };

    const pause = () => {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
    };
    const tick = () => {
      // A player that left the page stops.
      if (!root.isConnected) pause();
      else if (player.step < player.length) player.show(player.episode, player.step + 1);
      else if (resting < REST) resting += 1;
      else {
        resting = 0;
        player.show((player.episode + 1) % recording.episodes.length, 0);
      }
    };
    const start = () => {
      pause();
      resting = 0;
      play.textContent = "Pause";
      timer = setInterval(tick, 1000 / speeds.value);
    };
    const toggle = () => (timer === null ? start() : pause());
    const go = (step) => {
      pause();
      player.show(player.episode, step);
    };
    const change = (by) => {
      player.show(player.episode + by, 0);
      if (timer !== null) start();
    };
    const faster = (by) => {
      const next = SPEEDS[SPEEDS.indexOf(Number(speeds.value)) + by];
      if (next) speeds.value = next;
      if (timer !== null) start();
    };
    const keys = {
      " ": toggle,
      ArrowLeft: () => go(player.step - 1),
      ArrowRight: () => go(player.step + 1),
      ArrowUp: () => change(-1),
      ArrowDown: () => change(1),
      Home: () => go(0),
      End: () => go(player.length),
      "+": () => faster(1),
      "-": () => faster(-1),
    };
    root.addEventListener("keydown", (event) => {
      // Menus and buttons keep their own keys.
      const own = event.target instanceof HTMLSelectElement || (event.key === " " && event.target instanceof HTMLButtonElement);
      if (own || !(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    });
    scrubber.addEventListener("input", () => go(Number(scrubber.value)));
    episodes.addEventListener("change", () => change(Number(episodes.value) - player.episode));
    speeds.addEventListener("change", () => faster(0));

    player.show(0, 0);
    container.replaceChildren(root);
    return player;
  };
})();
