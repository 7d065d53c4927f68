"use strict";
// Follows the learner's events and shows them. Every address is relative, so that a proxy may add a path prefix.

(() => {
  const element = (id) => document.getElementById(id);
  // Beyond this many records the page forgets every second one.
  const MOST = 4000;
  const PHASES = {
    training: "training", waiting: "waiting for actors", evaluating: "final evaluation", complete: "complete",
    stopped: "stopped", failed: "training failed", lost: "connection lost, trying again", ended: "the learner has ended",
  };

  let run = {}, status = {}, records = [], evaluations = [], over = null;
  // The newest recording that the learner has announced, and the one in the player.
  let announced = null, shown = null;
  // Whether somebody uses the player, and whether a recording is on its way.
  let used = false, fetching = false;

  const percent = (value) => `${+(100 * value).toFixed(1)}%`;
  const decimal = (digits) => (value) => value.toFixed(digits);
  const whole = (value) => Math.round(value).toLocaleString("en");
  const known = (value) => typeof value === "number" && Number.isFinite(value);

  function duration(seconds) {
    const minutes = Math.round(seconds / 60);
    if (minutes < 1) return "less than a minute";
    const hours = Math.floor(minutes / 60);
    return hours ? `${hours} h ${minutes % 60} min` : `${minutes} min`;
  }

  const isTrain = (record) => record.kind === "train";
  const ofTrain = (name) => (record) => (isTrain(record) ? record[name] : undefined);
  const ofEvaluation = (name) => (record) => (isTrain(record) ? undefined : record[name]);
  const newest = (list) => list[list.length - 1] || {};

  const charts = [
    hrmChart(element("charts"), {
      title: "Episodes that reach the goal", wide: true, top: 1, format: percent,
      lines: [
        { label: "greedy, held-out mazes", colour: "blue", dots: true, value: ofEvaluation("success"),
          low: (record) => record.success_ci95[0], high: (record) => record.success_ci95[1] },
        { label: "training", colour: "orange", value: ofTrain("success") },
      ],
    }),
    hrmChart(element("charts"), {
      title: "Path ratio", bottom: 1, format: decimal(2),
      lines: [
        { label: "greedy", colour: "blue", dots: true, value: ofEvaluation("path_ratio") },
        { label: "training", colour: "orange", value: ofTrain("path_ratio") },
      ],
    }),
    hrmChart(element("charts"), {
      title: "Frames per second", lines: [{ label: "trained", colour: "blue", value: ofTrain("frames_per_second") }],
    }),
    hrmChart(element("charts"), {
      title: "Updates per second", lines: [{ label: "tried", colour: "blue", value: ofTrain("updates_per_second") }],
    }),
    hrmChart(element("charts"), {
      title: "Policy lag in versions", format: decimal(1),
      lines: [{ label: "mean", colour: "blue", value: ofTrain("policy_lag_mean") }],
    }),
    hrmChart(element("charts"), {
      title: "Segments per decision", format: decimal(2),
      lines: [
        { label: "greedy", colour: "blue", dots: true, value: ofEvaluation("segments") },
        { label: "training", colour: "orange", value: ofTrain("segments") },
      ],
    }),
    hrmChart(element("charts"), { title: "Time of the learner", top: 1, format: percent, stack: (record) => Object.entries(record.stages || {}) }),
    hrmChart(element("charts"), {
      title: "Time of the local actors", top: 1, format: percent, stack: (record) => record.actor_stages || [],
      none: "no actor in the learner's process",
    }),
  ];

  function figures() {
    const record = newest(records), evaluation = newest(evaluations);
    const shown = [
      ["Greedy success", evaluation.success, percent],
      ["Greedy path ratio", evaluation.path_ratio, decimal(3)],
      ["Training success", record.success, percent],
      ["Frames per second", record.frames_per_second, whole],
      ["Updates per second", record.updates_per_second, decimal(1)],
      ["Policy lag", record.policy_lag_mean, decimal(1)],
      ["Actors", status.actors, whole],
    ];
    const list = element("figures");
    list.replaceChildren();
    for (const [name, value, format] of shown) {
      const entry = document.createElement("div");
      const term = document.createElement("dt"), detail = document.createElement("dd");
      term.textContent = name;
      detail.textContent = known(value) ? format(value) : "–";
      entry.append(term, detail);
      list.append(entry);
    }
  }

  function phase() {
    if (over === "lost" && ["complete", "stopped", "failed"].includes(status.phase)) return status.phase;
    if (over) return over;
    return status.phase === "training" && status.actors === 0 ? "waiting" : status.phase || "training";
  }

  function show() {
    const { frames = 0, done = 0, seconds_left: left } = status;
    const now = phase();
    const ended = over === "lost" && now !== "lost" ? `; ${PHASES.ended}` : "";
    element("name").textContent = run.name || "HRM-Agent";
    element("about").textContent = run.maze ? `${run.maze}, model ${run.preset}, carry ${run.carry}` : "";
    element("release").textContent = run.release ? `hrm-impala ${run.release}` : "";
    element("phase").textContent = PHASES[now] + ended;
    element("phase").className = now;
    element("done").value = done;
    element("frames").textContent = run.total_frames ? `${whole(frames)} of ${whole(run.total_frames)} frames, ${percent(done)}` : "–";
    element("left").textContent = now === "training" && known(left) ? `${duration(left)} left` : "";
    document.title = run.name ? `${percent(done)} ${run.name}` : "HRM-Agent";
    figures();
    const all = records.concat(evaluations).sort((a, b) => a.frames - b.frames);
    for (const chart of charts) chart.draw(all, element("against").value);
  }

  // Many events of the history arrive at once.
  let due = false;
  function changed() {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      show();
    });
  }

  function keep(list, record) {
    list.push(record);
    if (list.length > MOST) list.splice(0, list.length, ...list.filter((_, at) => at % 2 === 1));
  }

  async function fetchRecording() {
    // The learner gives up after 60 s.
    const answer = await fetch("recording.json", { signal: AbortSignal.timeout(90000) });
    return answer.ok ? answer.json() : null;
  }

  // Shows the newest recording, which may be newer than the announced one. Only one is on its way at any time, so that
  // no older one arrives later. After an error, the next event tries again.
  async function showRecording() {
    if (fetching) return;
    fetching = true;
    const recording = await fetchRecording().catch(() => null);
    fetching = false;
    // The learner may have restarted meanwhile.
    if (!recording || recording.start !== run.start || (shown && recording.frames <= shown.frames)) return;
    if (used) {
      followRecording();
      return;
    }
    shown = recording;
    element("newer").hidden = true;
    element("evaluated").textContent =
      `The first ${recording.episodes.length} held-out episodes, with the weights of frame ${whole(recording.frames)}.`;
    Object.assign(window.hrmPage, { recording, player: window.hrmReplay(element("player"), recording) });
  }

  // A new recording replaces the one in the player, unless somebody uses it.
  function followRecording() {
    if (!announced || (shown && shown.frames >= announced.frames)) return;
    if (used) {
      element("newer").textContent = `Show the evaluation of frame ${whole(announced.frames)}`;
      element("newer").hidden = false;
    } else {
      showRecording();
    }
  }

  function forgetRecording() {
    [announced, shown, used] = [null, null, false];
    element("newer").hidden = true;
    element("evaluated").textContent = "The first episodes appear after the next evaluation.";
    element("player").replaceChildren();
    Object.assign(window.hrmPage, { recording: null, player: null });
  }

  function connect() {
    const source = new EventSource("events");
    const on = (name, act) => source.addEventListener(name, (event) => {
      act(JSON.parse(event.data));
      followRecording();
      changed();
    });
    on("run", (data) => {
      // Another start, or another run at the same address.
      if (data.start !== run.start) forgetRecording();
      [run, status, records, evaluations, over] = [data, {}, [], [], null];
    });
    on("record", (record) => {
      record.minutes = record.seconds / 60;
      keep(isTrain(record) ? records : evaluations, record);
    });
    on("status", (data) => { status = data; });
    on("recording", (data) => { announced = data; });
    source.addEventListener("error", () => {
      over = "lost";
      changed();
      // A browser does not try again after an answer other than 200, such as 503.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
    });
  }

  // For scripts that look at the page.
  window.hrmPage = { get records() { return records; }, get evaluations() { return evaluations; } };
  for (const event of ["pointerdown", "keydown"]) element("player").addEventListener(event, () => { used = true; });
  element("newer").addEventListener("click", () => {
    used = false;
    followRecording();
  });
  element("against").addEventListener("change", changed);
  addEventListener("resize", changed);
  show();
  connect();
})();
