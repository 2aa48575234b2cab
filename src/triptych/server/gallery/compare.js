// The same request on several models: the choice with its prices, and the results side by side. Each is its own job.

const COMPARISON = 'compare:', MOST_COMPARED_ROWS = 24;
let compared = null;  // the jobs or images shown side by side, if they are

// Return the call of a job as another model can take it; null where no call can make the job again.
function comparedCall(job) {
  const whole = job?.making && !job.making.params?.layers && wholeCall(job);
  return whole ? { tool: whole.tool, args: othersArgs(whole.args, job.making), operation: operationOf(whole.tool, job.making.count) } : null;
}
// Parameters and sizes of one model mean nothing to another; the size that the caller asked for stays.
function othersArgs({ model, provider, params, size, ...args }, making) { return { ...args, ...(making.size && { size: making.size }) }; }
function operationOf(tool, count = 1) { return `${tool === 'generate_sequence' ? 'generate' : 'edit'}${count > 1 ? '-sequential' : ''}`; }

// The first click shows each price and the sum, the second pays them one after the other.
function compareForm({ tool, args, operation, beside, panel }) {
  const own = jobs.get(jobOf(beside) ?? beside).result;
  const chosen = new Map();  // name → { offer, quoted, words }
  const query = h('input', { name: 'query', spellcheck: false, autocomplete: 'off', maxLength: 100, placeholder: 'all that fit', onchange: () => list() });
  const choices = h('div', { className: 'choices', role: 'group', 'aria-label': 'Models' });
  const sum = h('p', { role: 'status', id: 'price', className: 'words' });
  const button = h('button', { type: 'button', className: 'main' }, 'Show the prices');
  let quoted = null, over = false;
  const forget = () => {
    if (over) return;
    quoted = null;
    sum.textContent = '';
    button.textContent = 'Show the prices';
    for (const choice of chosen.values()) choice.words.textContent = '';
  };
  const choice = (offer) => {
    const name = offerName(offer), old = chosen.get(name);
    const words = old?.words ?? h('span', { className: 'cost', role: 'status' });
    const box = h('input', { type: 'checkbox', value: name, checked: Boolean(old), disabled: !offer.usable, onchange: () => {
      forget();
      if (box.checked) chosen.set(name, { offer, words }); else chosen.delete(name);
    } });
    const price = offer.price ?? (offer.usd_per_image === null ? 'quoted for each request' : `${money(offer.usd_per_image)}${offer.usd_per_image ? ' an image' : ''}`);
    return h('label', { className: 'choice' }, box, h('span', {},
      h('span', { className: 'row' }, h('b', {}, name), words), h('span', { className: 'dim small' }, offer.usable ? price : offer.why_not)));
  };
  const list = async () => {
    forget();
    try {
      const found = (await call('list_models', { operation, ...(query.value.trim() && { query: query.value.trim() }) })).structuredContent.models
        .filter((offer) => offer.model !== own.model || offer.provider !== own.provider);
      const kept = [...chosen.values()].map(({ offer }) => offer).filter((offer) => !found.some((other) => offerName(other) === offerName(offer)));
      choices.replaceChildren(...[...kept, ...found].map(choice));
      if (!choices.childElementCount) choices.append(h('p', { className: 'dim' }, 'No other model fits.'));
    } catch (error) { choices.replaceChildren(h('p', {}, error.message)); }
  };
  const of = ({ model, provider }) => ({ ...args, model, provider });
  const showPrices = async () => {
    const found = [];
    sum.textContent = 'Asking for the prices…';
    for (const one of chosen.values()) {
      try {
        one.quoted = (await call(tool, { ...of(one.offer), dry_run: true })).structuredContent.cost.quoted;
        one.words.textContent = one.quoted === 0 ? 'free' : `costs ${money(one.quoted)}`;
        found.push(one);
      } catch (error) { one.words.textContent = error.message; }
    }
    if (!found.length) { sum.textContent = chosen.size ? 'None of them takes this request.' : 'Choose one or more models.'; return; }
    quoted = found;
    const total = found.reduce((all, one) => all + Math.round(one.quoted * 1e6), 0) / 1e6;
    sum.textContent = `${total === 0 ? 'They are free' : `Together they cost ${money(total)}`}, in ${plural(found.length, 'job')} of their own. Nothing was sent yet.`;
    button.textContent = total === 0 ? 'Make them' : `Pay ${money(total)} and make them`;
  };
  const pay = async () => {
    const made = [], problems = [];
    over = true;  // none of these calls is offered again
    for (const { offer, quoted: most, words } of quoted) {
      words.textContent = 'asking…';
      try {
        const { job_id } = (await call(tool, { ...of(offer), max_cost_usd: most, wait_s: 0 })).structuredContent;
        made.push(job_id);
      } catch (error) {
        problems.push(`${offerName(offer)}: ${error instanceof NoAnswer ? LOST_ANSWER : error.message}`);
        if (error instanceof NoAnswer) break;
      }
    }
    if (made.length) {
      tellAssistant(`In the gallery the user started ${made.join(', ')} with ${tool}, to compare other models with ${beside}.`);
      await showComparison([beside, ...made]);
    }
    else { button.hidden = true; button.after(recentJobsButton()); }
    if (problems.length && made.length) showNotice(problems.join('\n'), 'care');
    else sum.textContent = problems.join('\n');
  };
  const work = async () => {
    button.disabled = query.disabled = true;
    for (const box of choices.querySelectorAll('input')) box.inert = true;
    try { await (quoted ? pay() : showPrices()); } catch (error) { sum.textContent = error.message; } finally {
      button.disabled = query.disabled = false;
      for (const box of choices.querySelectorAll('input')) box.inert = over;
    }
  };
  list();
  return panelForm(panel, 'Compare with other models', button, work,
    h('p', { className: 'dim' }, 'The same images and words, without parameters of one model alone. Each model makes a job of its own.'),
    h('label', {}, 'Models by name (optional)', query), choices, sum, panelButtons(panel, button));
}

async function showComparison(entries, { push = true } = {}) {
  stopPolling();
  showNotice('');
  current = shownHandle = null;
  compared = entries;
  setAddress(`${COMPARISON}${entries.join(',')}`, push);
  const ids = [...new Set(entries.map((entry) => jobOf(entry) ?? entry))];
  try { await Promise.all(ids.map(load)); } catch (error) { return showNotice(error.message, 'bad'); }
  if (compared !== entries) return;
  await Promise.all(ids.map((id) => jobs.get(id).loading));
  draw();
  if (!shownHandle) { $('title').focus(); poll(...ids); }
}

const secondsWords = (s) => (s < 90 ? `${Math.max(Math.round(s), 1)} s` : `${Math.round(s / 60)} min`);

// Return the images of one entry: an image by its handle, or the last place of each lane of a job.
function comparedPlaces(entry) {
  const job = jobs.get(jobOf(entry) ?? entry), all = places(job);
  if (jobOf(entry)) return all.filter((place) => place.image?.handle === entry);
  return all.filter((place) => !isChain(job) || place.step === stepsOf(job) - 1);
}

function drawComparison() {
  const found = compared.map((entry) => jobs.get(jobOf(entry) ?? entry));
  if (!found.every((job) => job?.making)) return;
  const key = `${COMPARISON}${compared}`;
  if (drawn.key !== key) buildComparison(key, compared);
  drawn.update();
}

function buildComparison(key, entries) {
  // The last entry was made for the comparison: its words are those of one image too.
  const words = promptsOf(jobs.get(jobOf(entries.at(-1)) ?? entries.at(-1))).join(' → ');
  const jobAt = (i) => jobs.get(jobOf(entries[i]) ?? entries[i]);
  const rows = Math.max(...entries.map((entry) => comparedPlaces(entry).length));
  const [first] = entries;
  const before = (row) => (jobOf(first) ? comparedPlaces(first)[0]?.image.source[0] : jobAt(0).making.lanes[row]?.[0]);
  const hasBefore = Boolean(before(0));
  const heads = entries.map((entry) => h('th', { scope: 'col', role: 'columnheader' }));
  const drawnRows = Math.min(rows, MOST_COMPARED_ROWS);
  const lines = Array.from({ length: drawnRows }, () => entries.map(() => h('td', { role: 'cell' })));
  const table = h('table', { role: 'table', id: 'grid', className: 'table compared', 'aria-label': 'Side by side', onkeydown: moveFocus },
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, hasBefore && h('th', { scope: 'col', role: 'columnheader' }, 'Before'), ...heads)),
    h('tbody', { role: 'rowgroup' }, ...lines.map((cells, row) => h('tr', { role: 'row' }, hasBefore && beforeCell(before(row)), ...cells))));
  replaceView(key, h('div', { className: 'stack' },
    h('h1', { id: 'title', tabIndex: -1 }, words),
    h('div', { className: 'row' }, h('span', { className: 'dim' }, `${plural(entries.length, 'model')} side by side`), h('span', { className: 'row far' }, recentJobsButton())),
    h('div', { className: 'scroll', role: 'region', tabIndex: 0, 'aria-label': 'The comparison; it scrolls sideways' }, table),
    rows > drawnRows ? h('p', { className: 'dim' }, `The first ${drawnRows} of ${rows} images; each job shows its own.`) : null));
  drawn.update = () => {
    for (const [i, entry] of entries.entries()) {
      const { result, making } = jobAt(i);
      const headKey = JSON.stringify([result.status, result.cost, making.took_s]);
      if (heads[i].dataset.key !== headKey) {
        heads[i].dataset.key = headKey;
        const many = jobOf(entry) && result.returned > 1 ? `with the other ${result.returned - 1} of its job: ` : '';
        const took = making.took_s ? ` · took ${secondsWords(making.took_s)}` : '';
        heads[i].replaceChildren(h('div', { className: 'stack' }, h('b', {}, offerName(result)), many ? null : h('span', {}, statusChip(result.status)),
          h('span', { className: 'dim small' }, `${many}${costWords(result.cost, result.status)}${took}`),
          h('button', { type: 'button', className: 'link', onclick: () => openJob(result.job_id) }, result.job_id)));
      }
      const shown = comparedPlaces(entry), shape = result.images.find((image) => image.width);
      if (shape && !table.style.getPropertyValue('--shape')) table.style.setProperty('--shape', `${shape.width} / ${shape.height}`);
      for (const [row, cells] of lines.entries()) compareCell(cells[i], shown[row], result, entries);
      if (shape) for (const cells of lines) cells[i].style.setProperty('--shape', `${shape.width} / ${shape.height}`);
    }
    enter(table);
  };
}

function compareCell(cell, place, result, entries) {
  const key = JSON.stringify([place?.image?.handle, place?.state, place?.lost]);
  if (cell.dataset.key === key) return;
  cell.dataset.key = key;
  if (!place?.image) {
    cell.replaceChildren(place ? stateTile(place) : h('div', { className: 'tile state' }, h('span', { className: 'dim' }, '–')));
    return;
  }
  const { handle } = place.image;
  cell.replaceChildren(h('button', { className: 'tile', type: 'button', tabIndex: -1, 'data-handle': handle, 'aria-label': `${offerName(result)}, image ${place.n}, open`,
    onclick: () => openImage(handle) }, picture(handle, '', 'not here yet')),
  h('button', { type: 'button', className: 'keep', 'aria-label': `Keep this one, ${handle}`, onclick: () => keepOne(handle, result, entries) }, 'Keep this one'));
}

// Go on with one of them: the next edit begins from it.
async function keepOne(handle, result, entries) {
  tellAssistant(`In the gallery the user compared ${entries.join(', ')} and kept ${handle}, made by ${offerName(result)}: the next edit begins from it.`);
  await openImage(handle);
  $('edit')?.click();
}
