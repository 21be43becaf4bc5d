// The status page: asks the program that served it, and shows what it says. Text goes in as text, never as markup.
'use strict';
const $ = id => document.getElementById(id);
const points = 120;
const requestRates = [];
const replyRates = [];
let before = null;
let rows = 20;

function make(tag, className, ...inside) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...inside);
  return element;
}

function count(number) {
  return Math.round(number).toString().replace(/\B(?=(\d{3})+$)/g, '\u202f');
}

function short(number) {
  for (const [size, unit] of [[1e9, 'G'], [1e6, 'M'], [1e4, 'k']]) if (number >= size) return (number / (size === 1e4 ? 1e3 : size)).toFixed(number >= 10 * size ? 0 : 1) + unit;
  return count(number);
}

function bits(bytesPerSecond) {
  const number = 8 * bytesPerSecond;
  for (const [size, unit] of [[1e9, 'Gbit/s'], [1e6, 'Mbit/s'], [1e3, 'kbit/s']]) if (number >= size) return (number / size).toFixed(1) + ' ' + unit;
  return number.toFixed(0) + ' bit/s';
}

function bytes(number) {
  for (const [size, unit] of [[2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB']]) if (number >= size) return (number / size).toFixed(1) + ' ' + unit;
  return number + ' B';
}

function time(seconds) {
  if (seconds < 1) return Math.round(seconds * 1000) + ' ms';
  const whole = Math.floor(seconds);
  if (whole < 60) return whole + ' s';
  if (whole < 3600) return Math.floor(whole / 60) + ' m ' + whole % 60 + ' s';
  if (whole < 86400) return Math.floor(whole / 3600) + ' h ' + Math.floor(whole / 60) % 60 + ' m';
  return Math.floor(whole / 86400) + ' d ' + Math.floor(whole / 3600) % 24 + ' h';
}

function meter(share) {
  const filled = make('i');
  filled.style.width = Math.min(100, 100 * share) + '%';
  return make('div', 'meter', filled);
}

async function ask(path) {
  const answer = await fetch(path, {cache: 'no-store', signal: AbortSignal.timeout(5000)});
  const json = await answer.json();
  if (!answer.ok) throw new Error(json.error);
  return json;
}

function showStatus(status) {
  const now = performance.now() / 1000;
  const counters = status.counters;
  $('ready').textContent = status.ready ? 'ready' : 'accepts no new sessions';
  $('ready').className = 'badge ' + (status.ready ? 'good' : 'bad');
  $('facts').textContent = `${status.version} · ${status.engine} · ${status.shards} shard${status.shards === 1 ? '' : 's'} · up ${time(status.uptime_seconds)} · pid ${status.pid}`;
  $('worker').hidden = !status.worker.text;
  $('worker').textContent = `worker: ${status.worker.text}`;
  $('config').textContent = status.config;
  const wrong = status.problems.length > 0;
  $('problems-panel').className = wrong ? 'panel warn' : 'panel well';
  $('problems-title').textContent = wrong ? 'What is wrong now' : 'No problems in the last minute';
  $('problems').replaceChildren(...status.problems.map(
    problem => make('p', '', make('b', '', problem.proxy), ' ' + problem.text)));
  $('sessions').textContent = count(status.sessions);
  const share = status.sessions_max ? status.sessions / status.sessions_max : 0;
  $('sessions-meter').style.width = 100 * share + '%';
  $('sessions-meter').className = share > 0.9 ? 'full' : '';
  $('sessions-limit').textContent = `of ${count(status.sessions_max)}`;
  const drops = status.drops + status.queue_drops;
  $('drops-total').textContent = count(drops) + ' since start';
  if (before && status.pid === before.status.pid) {
    const seconds = now - before.now;
    const rate = name => Math.max(0, (counters[name] - before.status.counters[name]) / seconds);
    $('requests').textContent = short(rate('departures_request'));
    $('replies').textContent = short(rate('departures_reply'));
    $('request-bits').textContent = bits(rate('bytes_request'));
    $('reply-bits').textContent = bits(rate('bytes_reply'));
    const dropRate = Math.max(0, (drops - before.status.drops - before.status.queue_drops) / seconds);
    $('drops').textContent = short(dropRate);
    $('drops-tile').classList.toggle('some', dropRate > 0);
    requestRates.push(rate('departures_request'));
    replyRates.push(rate('departures_reply'));
    if (requestRates.length > points) { requestRates.shift(); replyRates.shift(); }
    draw();
  }
  before = {now, status};
}

function draw() {
  const top = Math.max(10, ...requestRates, ...replyRates) * 1.08;
  const x = (index, list) => 600 * (points - list.length + index) / (points - 1);
  const y = value => 128 - 122 * value / top;
  for (const [name, list] of [['request', requestRates], ['reply', replyRates]]) {
    const line = list.map((value, index) => `${index ? 'L' : 'M'}${x(index, list).toFixed(1)} ${y(value).toFixed(1)}`).join('');
    $(name + '-line').setAttribute('d', line);
    $(name + '-area').setAttribute('d', list.length > 1 ? `${line}L600 128L${x(0, list).toFixed(1)} 128Z` : '');
  }
  $('chart-top').textContent = `top of the chart: ${short(top)}/s`;
}

function showProxies(answer) {
  const select = $('proxy');
  if (select.options.length !== answer.proxies.length + 1) {
    select.replaceChildren(new Option('every proxy', ''), ...answer.proxies.map(proxy => new Option(proxy.name, proxy.name)));
  }
  const reasons = new Map();
  $('proxies').replaceChildren(...answer.proxies.map(proxy => {
    const card = make('article', 'proxy', make('h3', '', proxy.name));
    const shown = !proxy.upstream_endpoint ? ' (has no address yet)' : proxy.upstream_endpoint === proxy.upstream ? '' : ` = ${proxy.upstream_endpoint}`;
    card.append(make('p', 'way', `${proxy.listen.join(', ')} → ${proxy.upstream}${shown}`));
    const sessions = make('div', 'row', make('span', '', 'sessions'), make('span', '', `${count(proxy.sessions)} of ${count(proxy.sessions_max)}`));
    sessions.append(meter(proxy.sessions_max ? proxy.sessions / proxy.sessions_max : 0));
    card.append(sessions);
    const all = proxy.replies.reduce((sum, source) => sum + source.datagrams, 0);
    for (const source of proxy.replies) {
      if (source.kind === 'unlisted' && source.datagrams === 0) continue;
      const name = make('span', '', make('span', 'kind', source.kind), source.source || 'unlisted sources');
      const row = make('div', 'row ' + source.kind, name, make('span', '', count(source.datagrams)));
      row.append(meter(all ? source.datagrams / all : 0));
      card.append(row);
    }
    for (const [reason, number] of Object.entries(proxy.drops)) {
      if (!reasons.has(reason)) reasons.set(reason, []);
      reasons.get(reason).push([proxy.name, number]);
    }
    if (proxy.queue_drops) reasons.set('(receive queue)', [...(reasons.get('(receive queue)') || []), [proxy.name, proxy.queue_drops]]);
    return card;
  }));
  const list = [...reasons].map(([reason, places]) => [reason, places, places.reduce((sum, [, number]) => sum + number, 0)]).sort((a, b) => b[2] - a[2]);
  const most = list.length ? list[0][2] : 0;
  $('reasons').replaceChildren(...(list.length ? list.map(([reason, places, sum]) => {
    const row = make('div', 'row drop', make('span', '', make('code', '', reason), make('span', 'quiet', ' ' + places.map(([name]) => name).join(', '))), make('span', '', count(sum)));
    row.append(meter(sum / most));
    return row;
  }) : [make('p', 'quiet', 'none')]));
}

function showUnlisted(answer) {
  $('unlisted-panel').hidden = answer.unlisted.length === 0;
  const shown = [...$('unlisted').children].map(source => source.dataset.key).join();
  const keys = answer.unlisted.map(source => source.proxy + ' ' + source.source);
  const say = source => `${count(source.datagrams)} datagrams to ${source.proxy}, the last ${time(source.seen_seconds_ago)} ago`;
  if (shown === keys.join()) {
    answer.unlisted.forEach((source, index) => { $('unlisted').children[index].querySelector('.quiet').textContent = say(source); });
    return;
  }
  $('unlisted').replaceChildren(...answer.unlisted.map((source, index) => {
    const button = make('button', '', 'Copy');
    button.type = 'button';
    button.addEventListener('click', () => copy(button, source.add));
    const entry = make('div', 'source', make('code', '', source.source), ' ', make('span', 'quiet', say(source)), make('div', 'line', make('code', '', source.add), button));
    entry.dataset.key = keys[index];
    return entry;
  }));
}

function copy(button, text) {
  // navigator.clipboard exists on https and loopback only.
  const area = make('textarea');
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  button.textContent = done ? 'Copied' : 'Select it by hand';
  setTimeout(() => { button.textContent = 'Copy'; }, 1500);
}

function showSessions(answer) {
  $('table').replaceChildren(...answer.sessions.map(session => {
    const state = session.assured ? ['assured', 'assured'] : session.replied ? ['replied', 'replied'] : ['none', 'no reply'];
    const cells = [['Client', session.client], ['Proxy', session.proxy], ['listener', session.local], ['local (to upstream)', session.local_endpoint],
      ['requests', count(session.requests), 'number'], ['replies', count(session.replies), 'number'],
      ['bytes', bytes(session.request_bytes + session.reply_bytes), 'number'], ['age', time(session.age_seconds), 'number'],
      ['idle', time(session.idle_seconds), 'number'], ['', state[1], 'state ' + state[0]]];
    return make('tr', '', ...cells.map(([name, text, className]) => {
      const cell = make('td', className, text);
      if (name) cell.dataset.name = name;
      return cell;
    }));
  }));
  $('more').hidden = answer.found <= answer.sessions.length || rows === 1000;
  $('found').textContent = answer.found > answer.sessions.length ? `${answer.sessions.length} of ${count(answer.found)}` :
    answer.found === 0 ? 'none' : `${count(answer.found)} session${answer.found === 1 ? '' : 's'}`;
}

function showMore() {
  rows = Math.min(1000, 5 * rows);
  soon();
}

async function refreshSessions() {
  const query = new URLSearchParams({limit: rows, sort: $('sort').value, proxy: $('proxy').value, client: $('client').value.trim()});
  try {
    showSessions(await ask('/v1/sessions?' + query));
    $('client').classList.remove('wrong');
    $('client').title = '';
  } catch (error) {
    if (!String(error.message).startsWith('client:')) throw error;
    $('client').classList.add('wrong');
    $('client').title = error.message;
    $('found').textContent = error.message;
  }
}

let turn = 0;
async function refresh() {
  try {
    if (!document.hidden) {
      showStatus(await ask('/v1/status'));
      if (turn % 2 === 0) showProxies(await ask('/v1/proxies'));
      if (turn % 2 === 0) showUnlisted(await ask('/v1/unlisted'));
      if (turn % 2 === 0) await refreshSessions();
      ++turn;
    }
    $('trouble').hidden = true;
  } catch (error) {
    $('trouble').textContent = `No answer: ${error.message}. What you see is old.`;
    $('trouble').hidden = false;
  }
  setTimeout(refresh, 1000);
}

function soon() { refreshSessions().catch(() => {}); }
let typing = 0;
$('client').addEventListener('input', () => { clearTimeout(typing); typing = setTimeout(soon, 250); });
$('proxy').addEventListener('change', soon);
$('more').addEventListener('click', showMore);
$('sort').addEventListener('change', soon);
$('search').addEventListener('submit', event => { event.preventDefault(); soon(); });
for (const height of [6, 47, 88, 128]) {
  const line = document.createElementNS('http://www.w3.org/2000/svg', 'line');
  for (const [name, value] of [['x1', 0], ['x2', 600], ['y1', height], ['y2', height]]) line.setAttribute(name, value);
  $('grid').append(line);
}
refresh();
