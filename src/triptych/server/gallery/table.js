// A chain as a table: a row for each lane, with its words, its first image and a cell for each step. Rows are drawn a
// part at a time, as they come into view.

const ROWS_AT_ONCE = 30, MOST_LANES = 12, MOST_VALUES = 5, CLIP_CHARS = 90;
const STATE_WORDS = { waiting: 'waiting', queued: 'waiting', submitting: 'running', running: 'running', fetching: 'arriving', done: 'did not come',
  failed: 'failed', cancelled: 'cancelled', uncertain: 'not known', '': 'waiting' };
const SHOWN = { all: 'All rows', failed: 'Rows that failed', coming: 'Rows still to come', done: 'Rows that are done' };

// A few lanes of plain images are shown larger, without a table.
function isTable(job) { return isChain(job) && Boolean(job.making?.is_table || (job.making?.lanes.length ?? 0) > MOST_LANES); }

// A long text cut short, with a switch that shows it whole.
function clipped(text, most = CLIP_CHARS) {
  if (text.length <= most) return h('span', { className: 'words' }, text);
  return h('details', { className: 'clip' },
    h('summary', {}, h('span', { className: 'cut' }, `${text.slice(0, most).trimEnd()}…`), h('span', { className: 'less' }, 'Less')),
    h('span', { className: 'words' }, text));
}

const fileOf = (source) => (/^(img|job)_/.test(source) ? source : source.split(/[?#]/)[0].split(/[\\/]/).at(-1));

function rowHead({ columns = [], values, sources }, lane) {
  const value = (i) => h('div', {}, h('dt', {}, `${columns[i]}: `), h('dd', {}, clipped(values[lane][i])));
  const given = columns.map((_, i) => i).filter((i) => values[lane][i]);
  const rest = given.length > MOST_VALUES + 1 ? given.splice(MOST_VALUES) : [];
  return h('th', { scope: 'row', role: 'rowheader' },
    h('span', { className: 'row' }, h('b', {}, String(lane + 1)), sources?.[lane] && h('span', { className: 'dim file', title: sources[lane] }, fileOf(sources[lane]))),
    given.length > 0 && h('dl', {}, ...given.map(value)),
    rest.length > 0 && h('details', {}, h('summary', {}, `${rest.length} more`), h('dl', {}, ...rest.map(value))));
}

function stateOf(place) { return place.image ? 'done' : UNFINISHED_STATES.has(place.state) && !place.lost ? 'coming' : 'failed'; }
const UNFINISHED_STATES = new Set(['', 'waiting', 'queued', 'submitting', 'running', 'fetching']);

// `earlier`: of a step that an earlier job made, its image, or "" for one before it.
function fillCell(cell, place, step, earlier) {
  const key = place ? JSON.stringify([place.image?.handle, place.image?.url, place.state, place.lost, place.reason]) : 'none';
  if (cell.dataset.key === key) return;
  cell.dataset.key = key;
  const caption = h('b', { className: 'step' }, `Step ${step + 1}`);
  if (earlier) return cell.replaceChildren(h('button', { className: 'tile', type: 'button', tabIndex: -1, 'data-handle': earlier,
    'aria-label': `Step ${step + 1}, made before: ${earlier}, open`, onclick: () => openImage(earlier) }, picture(earlier, '', 'made before'), caption));
  if (!place) return cell.replaceChildren(h('div', { className: 'tile state' }, caption, h('span', { className: 'dim' }, earlier === '' ? 'made before' : '–')));
  const focused = cell.contains(document.activeElement);
  if (place.image) {
    cell.replaceChildren(h('button', { className: 'tile', type: 'button', tabIndex: -1, 'data-handle': place.image.handle,
      'aria-label': `Row ${place.lane + 1}, step ${step + 1}, open`, onclick: () => openImage(place.image.handle) }, picture(place.image.handle, '', 'not here yet'), caption));
    if (focused) cell.firstElementChild.focus();
    return;
  }
  cell.replaceChildren(stateTile(place, caption));
}

// A place without an image: how far it is, or why it has none.
function stateTile(place, caption = null) {
  const lost = stateOf(place) === 'failed';
  const words = lost && UNFINISHED_STATES.has(place.state) ? 'did not come' : STATE_WORDS[place.state];
  return h('div', { className: `tile state ${lost ? 'lost' : 'coming'} ${place.state}` },
    caption, h('b', {}, words), place.reason && lost ? h('span', { className: 'small' }, clipped(place.reason, 70)) : null);
}

function beforeCell(source) {
  const cell = h('td', { role: 'cell' });
  if (source) cell.append(sourceTile(source));
  else cell.append(h('div', { className: 'tile state' }, h('span', { className: 'dim' }, 'from words')));
  return cell;
}

// Return the table's element and the function that draws it again; `memory` keeps what was drawn and chosen.
function buildTable(memory) {
  const body = h('tbody', { role: 'rowgroup' });
  const head = h('tr', { role: 'row', 'aria-rowindex': 1 });
  const table = h('table', { role: 'table', id: 'grid', className: 'table', 'aria-label': 'Rows', onkeydown: moveFocus }, h('thead', { role: 'rowgroup' }, head), body);
  const filter = h('select', { name: 'rows', 'aria-label': 'Which rows', onchange: () => { memory.filter = filter.value; memory.drawn = 0; redraw(); } });
  const more = h('button', { type: 'button', className: 'more', onclick: () => addRows() });
  more.seen = (isNear) => { if (isNear) addRows(); };
  let job, lanes = [], byLane = new Map(), rows = new Map();

  const cellsOf = (lane) => byLane.get(lane) ?? [];
  const kindOf = (lane) => {
    const states = cellsOf(lane).map(stateOf);
    return states.includes('failed') ? 'failed' : states.includes('coming') ? 'coming' : 'done';
  };
  function drawRow(lane) {
    const { making } = job;
    let row = rows.get(lane);
    if (!row) {
      const source = making.originals?.[lane] || making.lanes[lane][0];
      row = h('tr', { role: 'row', 'aria-rowindex': rows.size + 2 }, rowHead(making, lane), beforeCell(source),
        ...making.prompts.map(() => h('td', { role: 'cell' })));
      rows.set(lane, row);
      body.append(row);
    }
    const done = making.done?.[lane] ?? 0;
    for (let step = 0; step < making.prompts.length; step++)
      fillCell(row.children[step + 2], cellsOf(lane).find((place) => place.step === step), step,
        step >= done ? null : step === done - 1 ? making.lanes[lane][0] : '');
  }
  function addRows(most = ROWS_AT_ONCE) {
    for (const lane of lanes.slice(rows.size, rows.size + most)) drawRow(lane);
    memory.drawn = rows.size;
    const left = lanes.length - rows.size;
    more.hidden = !left;
    more.textContent = `Show more rows: ${left} left`;
    enter(table);
    onScreen.unobserve(more);
    if (left) onScreen.observe(more);  // still in view: draw the next part too
  }
  function redraw() {
    const kinds = new Map(job.making.lanes.map((_, lane) => [lane, kindOf(lane)]));
    const wanted = [...kinds.keys()].filter((lane) => memory.filter === 'all' || kinds.get(lane) === memory.filter);
    const number = (kind) => (kind === 'all' ? kinds.size : [...kinds.values()].filter((one) => one === kind).length);
    const kept = Object.keys(SHOWN).filter((kind) => kind === 'all' || kind === memory.filter || number(kind));
    const words = kept.map((kind) => `${SHOWN[kind]} (${number(kind)})`);
    if (filter.dataset.key !== words.join()) {
      filter.dataset.key = words.join();
      filter.replaceChildren(...kept.map((kind, i) => h('option', { value: kind, selected: kind === memory.filter }, words[i])));
    }
    table.setAttribute('aria-rowcount', wanted.length + 1);
    if (wanted.join() !== lanes.join()) {
      lanes = wanted;
      rows.clear();
      body.replaceChildren();
    } else for (const lane of rows.keys()) drawRow(lane);
    addRows(Math.max((memory.drawn || ROWS_AT_ONCE) - rows.size, 0));
  }
  function update(now) {
    job = now;
    const { prompts } = job.making;
    byLane = new Map();
    for (const place of places(job)) byLane.set(place.lane, [...cellsOf(place.lane), place]);
    const shape = job.result.images.find((image) => image.width);
    table.style.setProperty('--shape', shape ? `${shape.width} / ${shape.height}` : '1');
    table.style.setProperty('--steps', prompts.length);
    if (!head.childElementCount) head.append(...['Row', 'Before', ...prompts].map((words, i) =>
      h('th', { scope: 'col', role: 'columnheader' }, i < 2 ? words : h('span', {}, h('b', {}, `Step ${i - 1}`), ' ', clipped(words, 60)))));
    redraw();
  }
  const element = h('div', { className: 'stack' }, h('div', {}, filter),
    h('div', { className: 'scroll', role: 'region', tabIndex: 0, 'aria-label': 'The table; it scrolls sideways' }, table), more);
  return { element, update };
}
// One tile is reached by Tab, the others by arrow keys.
function enter(grid) {
  const open = [...grid.querySelectorAll('button.tile')];
  if (open.length && !open.some((button) => button.tabIndex === 0)) open[0].tabIndex = 0;
}
