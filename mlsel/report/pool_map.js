// The map of the pool: a shade of all frames drawn once, the chosen ones over it, bars that follow.
(() => {
  const source = document.getElementById("pool-map");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const integers = text => new Uint32Array(bytes(text).buffer);
  const numbers = one => {
    const steps = new Uint16Array(bytes(one.of).buffer), width = (one.high - one.low) / 65535;
    return Float64Array.from(steps, step => one.low + step * width);
  };
  const frames = integers(data.frames), run = integers(data.run), row = integers(data.row);
  const x = numbers(data.x), y = numbers(data.y);
  const sets = data.sets.map(set => ({...set, places: integers(set.places)}));
  const properties = data.properties.map(one => ({...one, values: numbers(one)}));
  const map = document.querySelector(".map");
  const plot = map.querySelector(".plot"), told = map.querySelector(".told");
  const bars = [...map.querySelectorAll(".bars")], structure = map.querySelector(".structure");
  const MARGIN = 10, BINS = 40, CELL = 5;
  let picked = -1, shade = null, turn = {a: 0.5, b: 0.35};

  const fitted = canvas => {  // a pixel of the canvas is one of the screen
    const scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = Math.round(width * scale); canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    return [pen, width, height];
  };
  const ink = () => getComputedStyle(document.body).color;
  const spanX = data.x.high - data.x.low || 1, spanY = data.y.high - data.y.low || 1;
  const toX = (k, width) => MARGIN + (x[k] - data.x.low) / spanX * (width - 2 * MARGIN);
  const toY = (k, height) => height - MARGIN - (y[k] - data.y.low) / spanY * (height - 2 * MARGIN);

  function shadeOf(width, height) {  // counts in cells, darker where there are more
    const columns = Math.ceil(width / CELL), rows = Math.ceil(height / CELL);
    const counts = new Uint32Array(columns * rows);
    let most = 1;
    for (let k = 0; k < x.length; k++) {
      const cell = Math.floor(toY(k, height) / CELL) * columns + Math.floor(toX(k, width) / CELL);
      most = Math.max(most, ++counts[cell]);
    }
    return {columns, rows, counts, most, width, height};
  }

  function draw() {
    const [pen, width, height] = fitted(plot);
    if (!width) return;
    if (!shade || shade.width !== width || shade.height !== height) shade = shadeOf(width, height);
    pen.fillStyle = ink();
    for (let cell = 0; cell < shade.counts.length; cell++) {
      const count = shade.counts[cell];
      if (!count) continue;
      pen.globalAlpha = 0.08 + 0.42 * Math.log1p(count) / Math.log1p(shade.most);
      pen.fillRect(cell % shade.columns * CELL, Math.floor(cell / shade.columns) * CELL, CELL, CELL);
    }
    pen.globalAlpha = 0.75;
    for (const set of sets) {
      if (!set.shown) continue;
      pen.fillStyle = set.colour;
      for (const k of set.places) {
        pen.beginPath(); pen.arc(toX(k, width), toY(k, height), 2.6, 0, 7); pen.fill();
      }
    }
    pen.globalAlpha = 1;
    if (picked >= 0) {
      pen.strokeStyle = ink(); pen.lineWidth = 2;
      pen.beginPath(); pen.arc(toX(picked, width), toY(picked, height), 7, 0, 7); pen.stroke();
    }
  }

  function histogram(values, one, places) {
    const counts = new Float64Array(BINS), width = (one.high - one.low) / BINS || 1;
    const add = k => counts[Math.min(BINS - 1, Math.floor((values[k] - one.low) / width))]++;
    if (places) places.forEach(add); else for (let k = 0; k < values.length; k++) add(k);
    const total = places ? places.length : values.length;
    return counts.map(count => count / total);
  }

  function drawBars() {
    properties.forEach((one, p) => {
      const [pen, width, height] = fitted(bars[p]);
      if (!width) return;
      const top = 16, bottom = height - 16, step = (width - 2 * MARGIN) / BINS;
      const all = histogram(one.values, one);
      const shown = sets.filter(set => set.shown)
        .map(set => [set.colour, histogram(one.values, one, set.places)]);
      const most = Math.max(...all, ...shown.flatMap(([, shares]) => [...shares]));
      const level = share => bottom - share / most * (bottom - top);
      pen.fillStyle = ink(); pen.globalAlpha = 0.22;
      all.forEach((share, b) => pen.fillRect(MARGIN + b * step, level(share), step, bottom - level(share)));
      pen.globalAlpha = 1; pen.lineWidth = 1.5;
      for (const [colour, shares] of shown) {
        pen.strokeStyle = colour; pen.beginPath();
        shares.forEach((share, b) => {
          pen.lineTo(MARGIN + b * step, level(share)); pen.lineTo(MARGIN + (b + 1) * step, level(share));
        });
        pen.stroke();
      }
      pen.fillStyle = ink(); pen.font = "12px system-ui, sans-serif"; pen.textBaseline = "alphabetic";
      pen.textAlign = "left"; pen.fillText(one.head, MARGIN, 12);
      pen.fillText(one.low.toPrecision(4), MARGIN, height - 3);
      pen.textAlign = "right"; pen.fillText(one.high.toPrecision(4), width - MARGIN, height - 3);
    });
  }

  function drawStructure() {
    const frame = picked >= 0 ? data.structures.frames[frames[picked]] : null;
    structure.hidden = !frame;
    if (!frame) return;
    const [pen, width, height] = fitted(structure);
    const at = new Int16Array(bytes(frame.at).buffer), kinds = bytes(data.structures.kinds[run[picked]]);
    const [ca, sa, cb, sb] = [Math.cos(turn.a), Math.sin(turn.a), Math.cos(turn.b), Math.sin(turn.b)];
    const scale = 0.5 * Math.min(width, height) / (1.75 * frame.size);
    const atoms = [...kinds].map((kind, i) => {
      const [u, v, w] = [0, 1, 2].map(d => at[3 * i + d] / 32767 * frame.size);
      const across = ca * u + sa * v, deep = ca * v - sa * u;
      return {kind, across, up: cb * w + sb * deep, deep: cb * deep - sb * w};
    }).sort((a, b) => b.deep - a.deep);
    for (const atom of atoms) {
      const element = data.structures.elements[atom.kind];
      pen.fillStyle = element.colour; pen.strokeStyle = "#0008"; pen.lineWidth = 0.7;
      pen.beginPath();
      pen.arc(width / 2 + scale * atom.across, height / 2 - scale * atom.up,
              Math.max(1.5, 0.6 * scale * element.radius), 0, 7);
      pen.fill(); pen.stroke();
    }
  }

  function tell() {
    const parts = [`Frame ${frames[picked]}: ${data.runs[run[picked]]}, number ${row[picked]} of it`];
    parts.push(data.compositions[run[picked]]);
    for (const one of properties) parts.push(`${one.head.split(" /")[0]} ${one.values[picked].toPrecision(4)}`
                                             + ` ${one.head.split("/ ").pop()}`);
    const by = sets.filter(set => set.places.includes(picked)).map(set => set.name);
    parts.push(by.length ? `chosen by ${by.join(", ")}` : "not chosen");
    told.textContent = parts.join("; ") + ".";
  }

  plot.addEventListener("click", event => {
    const box = plot.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    const near = (places, most) => {
      let best = -1;
      for (const k of places) {
        const apart = (toX(k, box.width) - px) ** 2 + (toY(k, box.height) - py) ** 2;
        if (apart < most) { most = apart; best = k; }
      }
      return best;
    };
    const chosen = sets.filter(set => set.shown).flatMap(set => [...set.places]);
    picked = near(chosen, 64);  // a dot under the finger, else whatever frame is nearest
    if (picked < 0) picked = near(x.keys(), Infinity);
    tell(); draw(); drawStructure();
  });
  structure.addEventListener("pointermove", event => {
    if (!event.buttons) return;
    turn = {a: turn.a + event.movementX / 100, b: turn.b + event.movementY / 100};
    drawStructure();
  });

  const toggles = document.getElementById("sets");
  for (const set of sets) {
    const button = document.createElement("button"), dot = document.createElement("i");
    dot.style.background = set.colour;
    button.type = "button"; button.append(dot, `${set.name} (${set.places.length})`);
    button.setAttribute("aria-pressed", set.shown);
    button.addEventListener("click", () => {
      set.shown = !set.shown;
      button.setAttribute("aria-pressed", set.shown);
      draw(); drawBars();
    });
    toggles.append(button);
  }
  const all = () => { draw(); drawBars(); drawStructure(); };
  new ResizeObserver(all).observe(map);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  all();
})();
