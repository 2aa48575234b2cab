// The previews and the jobs that the page holds, how it polls a running job, and the calls that make images again.

const MAX_POLLS = 2400, POLL_WAIT_MS = 1500, POLL_WAIT_PER_IMAGE_MS = 5, STATUS_WAIT_S = 5, MAX_POLL_FAILURES = 5;
const MAX_CONCURRENT_PREVIEWS = 4, MAX_CACHED_PREVIEWS = 120;
const UNFINISHED = new Set(['queued', 'running', 'asking']);
const LOST = new Set(['failed', 'cancelled', 'uncertain']);

// -- previews ---------------------------------------------------------------------------------------------------------

const previews = new Map();  // handle → promise of { src, facts } or null
const previewSlots = { free: MAX_CONCURRENT_PREVIEWS, queue: [] };

async function withPreviewSlot(work) {
  if (previewSlots.free > 0) previewSlots.free--;
  else await new Promise((resolve) => previewSlots.queue.push(resolve));
  try { return await work(); } finally {
    const next = previewSlots.queue.shift();
    if (next) next(); else previewSlots.free++;
  }
}

// `wanted`: called when its turn comes; a picture that was scrolled past is not read.
function preview(handle, wanted = () => true) {
  let found = previews.get(handle);
  if (!found) {
    found = withPreviewSlot(() => (wanted() ? readPreview(handle) : null));
    found.then((read) => { if (!read) previews.delete(handle); });
  }
  previews.delete(handle);
  previews.set(handle, found);
  if (previews.size > MAX_CACHED_PREVIEWS) previews.delete(previews.keys().next().value);
  return found;
}

async function readPreview(handle) {
  const src = (type, data) => (/^image\/(jpeg|png|webp)$/.test(type) ? `data:${type};base64,${data}` : null);
  try {
    const [read] = (await request('resources/read', { uri: `triptych://images/${handle}` })).contents;
    return { src: src(read.mimeType, read.blob), facts: read._meta ?? {} };
  } catch {
    // Some hosts forward tool calls but not resource reads.
    try {
      const image = (await call('view_images', { images: [handle] })).content.find((c) => c.type === 'image');
      return image ? { src: src(image.mimeType, image.data), facts: {} } : null;
    } catch { return null; }
  }
}

// A picture is read when it comes into view, and let go when it is far out of it: a large job has thousands.
const onScreen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) target.seen?.(isIntersecting);
}, { rootMargin: '300px' });

function picture(handle, alt, missing = 'no preview') {
  const face = h('span', { className: 'face' });
  let near = false;
  face.seen = async (isNear) => {
    near = isNear;
    if (!near) return face.replaceChildren();
    const found = await preview(handle, () => near);
    if (near) face.replaceChildren(found?.src ? h('img', { src: found.src, alt, draggable: false }) : h('span', {}, missing));
  };
  onScreen.observe(face);
  return face;
}
const thumb = (handle, alt = '') => { const face = picture(handle, alt, '–'); face.className = 'thumb'; return face; };

// -- jobs -------------------------------------------------------------------------------------------------------------

const jobs = new Map();  // id → { result, making }
let current = null;      // the job shown
let shownHandle = null;  // the image shown, if one is
let toolInput = null;    // what the assistant's call was given
let pollTurn = 0;        // a poll loop ends when this number changes

const isJob = (value) => value && typeof value.job_id === 'string' && Array.isArray(value.images);
const jobOf = (handle) => (handle.includes('/') ? handle.split('/')[0] : null);
const numberOf = (handle) => Number(handle.split('/')[1]);

function showToolResult(answer) {
  const result = answer.structuredContent;
  if (answer.isError || !result) {
    current = null;
    $('view').replaceChildren(h('p', { className: 'notice bad words' }, textOf(answer) || 'There is no result.'), recentJobsButton());
    return;
  }
  if (result.status === 'dry_run') {
    showAsking({ ...result, job_id: null });
    return;
  }
  if (isJob(result)) updateJob(result, { show: true, input: toolInput && !('job_id' in toolInput) ? toolInput : null });
}

// Store a tool's result of a job, and read the whole job when it has changed.
async function updateJob(result, { show = false, input = null } = {}) {
  const id = result.job_id;
  const before = jobs.get(id);
  const moved = !before?.making || before.result.status !== result.status || before.result.returned !== result.returned;
  const job = before ?? { making: null, input };
  job.result = before && !moved ? { ...result, images: before.result.images } : mergeImages(before?.result, result);
  jobs.set(id, job);
  if (show) { current = id; shownHandle = compared = null; }
  draw();
  if (moved) await (job.loading = readAllImages(job, result));
  if (show && current === id) poll(id);
  return job;
}

// A tool lists no images while the job runs, and then one page of them; the job's resource lists all of them.
async function readAllImages(job, { job_id, warnings, page }) {
  try {
    await readResource(job, job_id, warnings);
  } catch {
    // Some hosts forward tool calls but not resource reads.
    try {
      for (let number = 2; number <= (page?.of ?? 1); number++)
        job.result = mergeImages(job.result, (await call('get_status', { job_id, page: number })).structuredContent);
    } catch { /* the tool's result is shown as it is */ }
  }
  draw();
}
async function readResource(job, id, warnings = []) {
  const [read] = (await request('resources/read', { uri: `triptych://jobs/${id}` })).contents;
  const whole = JSON.parse(read.text);
  job.result = { ...whole, warnings: [...new Set([...whole.warnings, ...warnings])] };
  job.making = read._meta?.making ?? job.making;
}
function mergeImages(old, fresh) {
  const handles = new Set(fresh.images.map((image) => image.handle));
  return { ...fresh, images: [...(old?.images ?? []).filter((image) => !handles.has(image.handle)), ...fresh.images] };
}

async function load(id) {
  return jobs.get(id) ?? updateJob((await call('get_status', { job_id: id, wait_s: 0 })).structuredContent);
}

function stopPolling() { pollTurn++; }

// Poll the jobs until they end. The number of polls, their pace and the failures in a row are limited.
async function poll(...ids) {
  const mine = ++pollTurn;
  let failures = 0;
  for (let polls = 0; polls < MAX_POLLS; polls++) {
    const running = ids.filter((id) => UNFINISHED.has(jobs.get(id).result.status));
    if (!running.length) return;
    const waitMs = POLL_WAIT_MS + POLL_WAIT_PER_IMAGE_MS * Math.max(...running.map((id) => jobs.get(id).result.returned));
    await new Promise((resolve) => setTimeout(resolve, waitMs * 2 ** failures));
    await whenVisible();
    if (mine !== pollTurn) return;
    try {
      for (const id of running) {
        try {
          await readResource(jobs.get(id), id);
          draw();
        } catch {
          const answer = await call('get_status', { job_id: id, wait_s: STATUS_WAIT_S });
          if (mine === pollTurn) await updateJob(answer.structuredContent);
        }
        if (mine !== pollTurn) return;
      }
      failures = 0;
    } catch (error) {
      if (mine !== pollTurn) return;
      if (++failures >= MAX_POLL_FAILURES) {
        showNotice(`The gallery stopped asking: ${error.message} The job goes on; Refresh asks again.`, 'care');
        return;
      }
    }
    if (mine !== pollTurn) return;
  }
  showNotice('This takes long. The job goes on; Refresh asks again.', 'care');
}
const whenVisible = () => (document.visibilityState === 'visible' ? null : new Promise((resolve) =>
  document.addEventListener('visibilitychange', resolve, { once: true })));

// Return one place for each image of a job, in order: with its image, waiting for it, or lost.
function places(job) {
  const { result, making } = job;
  const images = new Map(result.images.map((image) => [numberOf(image.handle), image]));
  const steps = stepsOf(job);
  const found = [];
  const add = (n, lane, step, state, reason) => {
    const lost = LOST.has(state) || !UNFINISHED.has(result.status);
    const unknown = (state || result.status) === 'uncertain';
    found.push({ n, lane, step, state, reason, image: images.get(n) ?? null, lost, label: unknown ? 'not known' : lost ? 'did not come' : 'still to come' });
  };
  if (making?.requests.length)
    for (const r of making.requests) for (let i = 0; i < r.count; i++) add(r.first_output + i, r.lane, r.step, r.state, r.reason);
  else for (let n = 1; n <= result.requested; n++) add(n, Math.floor((n - 1) / steps), (n - 1) % steps, '');
  return found.sort((a, b) => a.n - b.n);
}
function isChain(job) { return (job.making?.tool ?? toolOf(job.input)) === 'edit_chain'; }
function stepsOf(job) { return isChain(job) ? (job.making?.prompts ?? job.input?.steps ?? ['']).length : 1; }
function toolOf(input) { return !input ? null : input.prompt === undefined ? 'edit_chain' : input.images ? 'edit_sequence' : 'generate_sequence'; }
function promptsOf(job) {
  if (job?.making) return job.making.prompts;
  const words = job?.input?.steps ?? job?.input?.prompt;
  return words ? [words].flat() : [];
}
// A job is made again with the images and words of the version of the look that it used: the name may mean another now.
const lookImages = ({ look }) => look?.images ?? [];

// Return the tool and the arguments that make the whole job again; null if no call can name its lanes one by one.
function wholeCall(job) {
  const { making, result } = job;
  if (!making) {
    const tool = toolOf(job.input);
    if (!tool) return null;
    const { wait_s, dry_run, again, max_cost_usd, ...args } = job.input;
    return { tool, args };
  }
  if (making.is_table) return null;
  const sizes = [...new Set(making.requests.map((r) => r.size))];
  const args = { model: result.model, provider: result.provider };
  if (making.format) args.format = making.format;
  if (making.params) args.params = making.params;
  if (sizes.length === 1 && sizes[0]) args.size = sizes[0];
  const prompts = making.sent ?? making.prompts;
  if (making.tool === 'edit_chain') {
    const references = [...(making.references ?? []), ...lookImages(making)];
    Object.assign(args, { images: making.lanes.map((lane) => lane[0]), steps: prompts, ...(references.length && { references }) });
  } else {
    const images = [...making.lanes[0], ...lookImages(making)];
    Object.assign(args, { prompt: prompts[0], count: making.count, ...(images.length && { images }) });
  }
  return { tool: making.tool, args };
}

// Return the tool and the arguments that make one image of a job again, with `prompt` as the words to begin with. Its
// neighbours in a set go along as images, so that the new one keeps the look of the set.
function redoCall(job, handle, prompt) {
  const { making, result } = job;
  if (!making) return null;
  const n = numberOf(handle), source = result.images.find((image) => image.handle === handle)?.source ?? [];
  const place = places(job).find((p) => p.n === n);
  const request = making.requests.find((r) => r.lane === place.lane && r.step === place.step);
  const args = { model: result.model, provider: result.provider, ...(making.format && { format: making.format }),
    ...(making.params && { params: making.params }), ...(request.size && { size: request.size }) };
  const chain = making.tool === 'edit_chain';
  const own = chain ? source : [...making.lanes[0], ...lookImages(making)];
  if (chain && own.length && !(place.step === 0 && !making.lanes[place.lane].length)) {
    const references = own.slice(1);
    return { tool: 'edit_chain', prompt,
      args: (words) => ({ ...args, images: own.slice(0, 1), steps: [words], ...(references.length && { references }) }) };
  }
  const { count } = making;
  const neighbours = count === 1 ? [] : result.images.map((image) => image.handle)
    .filter((other) => other !== handle && Math.abs(numberOf(other) - n) <= (n === 1 || n === count ? 2 : 1)).slice(0, 2);
  const given = [...own, ...neighbours].slice(0, 14);
  const words = count === 1 ? prompt : `Only image ${n} of this set of ${count}, again${neighbours.length ? ', in the look of the others' : ''}. The set: ${prompt}`;
  if (!given.length) return { tool: 'generate_sequence', prompt: words, args: (text) => ({ ...args, prompt: text, count: 1 }) };
  // A model that only generates takes no images: the provider's default model edits then.
  if (making.tool === 'generate_sequence') delete args.model;
  return { tool: 'edit_sequence', prompt: words, args: (text) => ({ ...args, images: given, prompt: text, count: 1 }) };
}
