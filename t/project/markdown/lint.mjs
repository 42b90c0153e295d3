// What is wrong with pages of Markdown as GitHub shows them, for t/project/markdown.t:
//
//     node lint.mjs MODULES ROOT PAGE...
//
// MODULES is a directory with node_modules, ROOT that of the pages, whose paths are
// relative to it. The output is JSON: { problems: [{ page, line, rule, text }],
// diagrams: [{ page, line, text }], counts: { RULE: N } }, where N is how many things
// were looked at. The diagrams are those of Mermaid; the test draws them in a browser.

import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [modules, root, ...names] = process.argv.slice(2);

const { resolve } = createRequire(path.resolve(modules, 'package.json'));
const load = (name) => import(pathToFileURL(resolve(name)));

const { unified } = await load('unified');
const { default: remarkParse } = await load('remark-parse');
const { default: remarkGfm } = await load('remark-gfm');
const { default: GithubSlugger } = await load('github-slugger');
const { toString } = await load('mdast-util-to-string');
const { visitParents } = await load('unist-util-visit-parents');

const parser = unified().use(remarkParse).use(remarkGfm);

const problems = [];
const diagrams = [];
const counts = {};

const CALLOUTS = ['NOTE', 'TIP', 'IMPORTANT', 'WARNING', 'CAUTION'];

// What GitHub leaves of HTML: elements, and their attributes besides those of all.
const ELEMENTS = new Set(`a b blockquote br code dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr i img ins kbd li ol p
  picture pre q s samp source strong sub summary sup table tbody td tfoot th thead tr tt ul var`.split(/\s+/));
const ATTRIBUTES = new Set(`align alt aria-label border colspan dir height href hspace id lang media name open role rowspan
  src srcset title valign vspace width`.split(/\s+/));

const count = (rule, n = 1) => { counts[rule] = (counts[rule] ?? 0) + n; };

// --- one page

// The text of a page, its tree, and its headings with the anchors that GitHub makes.
function read(name) {
  const source = fs.readFileSync(path.join(root, name), 'utf8');
  const page = { name, source, lines: source.split('\n'), tree: parser.parse(source), headings: [], anchors: new Map() };
  const slugger = new GithubSlugger();

  visitParents(page.tree, 'heading', (node) => {
    const text = toString(node);
    const anchor = slugger.slug(text);
    const heading = { node, depth: node.depth, text, anchor, line: node.position.start.line };
    page.headings.push(heading);
    page.anchors.set(anchor, heading);
  });

  // <a name="..."> and the like
  visitParents(page.tree, 'html', (node) => {
    for (const [, anchor] of node.value.matchAll(/\s(?:id|name)\s*=\s*"([^"]*)"/g)) page.anchors.set(anchor, undefined);
  });

  return page;
}

function problem(page, node, rule, text) {
  problems.push({ page: page.name, line: node?.position?.start.line ?? 1, rule, text });
}

const original = (page, node) => page.source.slice(node.position.start.offset, node.position.end.offset);

function headings(page) {
  const first = page.headings.filter((h) => h.depth === 1);
  count('one-h1');
  if (first.length !== 1) problem(page, first[1]?.node, 'one-h1', `the page has ${first.length} headings of level 1, not one`);
  else if (first[0] !== page.headings[0]) problem(page, page.headings[0].node, 'one-h1', 'the heading of level 1 is not the first');

  const above = [];
  const seen = new Map();
  let depth = 0;

  for (const { node, depth: d, text } of page.headings) {
    count('heading-level');
    if (depth && d > depth + 1) problem(page, node, 'heading-level', `"${text}" has level ${d}, below level ${depth}`);
    depth = d;

    above.length = d - 1;
    above[d - 1] = text;
    const key = above.slice(0, d).join('\n');
    if (seen.has(key)) problem(page, node, 'heading-twice', `"${text}" is there twice, in the same section`);
    seen.set(key, node);
    if (!text.trim()) problem(page, node, 'heading-empty', 'a heading without text');
  }
}

// Who opens a long page sees what is in it.
function contents(page) {
  if (page.lines.length <= 200) return;
  const sections = page.headings.filter((h) => h.depth === 2);
  if (!sections.length) return;
  count('contents');

  const linked = new Set();
  visitParents(page.tree, 'link', (node) => {
    if (node.position.start.line < sections[0].line && node.url.startsWith('#')) linked.add(node.url.slice(1));
  });
  for (const { node, text, anchor } of sections) {
    if (!linked.has(anchor)) problem(page, node, 'contents', `"${text}" has no link at the top of this long page`);
  }
}

// How many cells a line of a table has: a "|" ends one, in code too, unless a
// backslash stands before it.
function cells(line) {
  const inner = line.trim().replace(/^\|/, '').replace(/(?<!\\)((?:\\\\)*)\|$/, '$1');
  return inner.split(/(?<!\\)\|/).length;
}

function tables(page) {
  visitParents(page.tree, 'table', (node) => {
    const lines = page.lines.slice(node.position.start.line - 1, node.position.end.line)
      .map((l) => l.slice(node.position.start.column - 1));
    const want = cells(lines[0]);
    count('table-cells');

    lines.forEach((line, i) => {
      const at = { position: { start: { line: node.position.start.line + i } } };
      if (i !== 1 && cells(line) !== want) {
        problem(page, at, 'table-cells', `a row with ${cells(line)} cells in a table with ${want}: ${line.trim().slice(0, 60)}`
          + ((line.match(/`[^`]*[^\\`]\|[^`]*`/)) ? '; "|" in code is written "\\|"' : ''));
      }
      if (!line.trim().startsWith('|')) problem(page, at, 'table-cells', `the table goes on in a line without "|": ${line.trim().slice(0, 60)}`);
    });
  });

  // What was meant as a table, and is text for GitHub.
  visitParents(page.tree, 'paragraph', (node) => {
    if (/^\s*\|?\s*:?-+:?\s*\|[-|:\s]*$/m.test(original(page, node))) {
      problem(page, node, 'table-broken', 'this is no table: its second line must have as many cells as the first one, and a '
        + 'blank line must be above it');
    }
  });
}

function callouts(page) {
  visitParents(page.tree, 'blockquote', (node, ancestors) => {
    const [first] = node.children;
    if (first?.type !== 'paragraph') return;
    const [head, ...rest] = original(page, first).replace(/^[ \t]*>[ \t]?/gm, '').split('\n');
    const match = /^\[!([^\]]*)\](.*)$/.exec(head);
    if (!match) return;

    count('callout');
    if (!CALLOUTS.includes(match[1])) problem(page, node, 'callout', `[!${match[1]}] is none of ${CALLOUTS.join(', ')}`);
    if (match[2].trim()) problem(page, node, 'callout', `[!${match[1]}] must stand in a line by itself`);
    if (ancestors.some((a) => a.type !== 'root')) problem(page, node, 'callout', `[!${match[1]}] inside of a list or a quote is not shown as one`);
    if (!(match[2] + rest.join('')).trim() && node.children.length === 1) problem(page, node, 'callout', `[!${match[1]}] has no text`);
  });
}

function html(page) {
  visitParents(page.tree, 'html', (node) => {
    const text = node.value.replace(/<!--[\s\S]*?-->/g, '');
    for (const [tag, name, attributes] of text.matchAll(/<([a-zA-Z][\w-]*)((?:[^<>"']|"[^"]*"|'[^']*')*)>/g)) {
      count('html');
      if (!ELEMENTS.has(name.toLowerCase())) {
        problem(page, node, 'html', `GitHub drops ${tag}; text is written with backquotes or "\\<"`);
        continue;
      }
      for (const [, attribute] of attributes.matchAll(/([^\s"'=<>/]+)(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'>]+))?/g)) {
        if (!ATTRIBUTES.has(attribute.toLowerCase())) problem(page, node, 'html', `GitHub drops the attribute ${attribute} of ${tag}`);
      }
      if (name.toLowerCase() === 'img' && !/\salt\s*=\s*"[^"]*\S[^"]*"/.test(attributes)) {
        problem(page, node, 'image-alt', `an image without a text: ${tag}`);
      }
    }
    if (/<!--(?![\s\S]*-->)/.test(node.value)) problem(page, node, 'html', 'a comment without an end');
  });
}

function code(page) {
  visitParents(page.tree, 'code', (node) => {
    const text = original(page, node);
    const fence = /^(`{3,}|~{3,})/.exec(text);
    if (!fence) return;
    count('fence');
    if (!new RegExp(`\\n[ \\t>]*${fence[1][0]}{${fence[1].length},}\\s*$`).test(text)) problem(page, node, 'fence', 'the block has no end');
    if (node.lang === 'mermaid') diagrams.push({ page: page.name, line: node.position.start.line, text: node.value });
  });
}

// --- from page to page

const pages = new Map(names.map((name) => [name, read(name)]));

// Also of a page that is not among those that are checked.
function other(name) {
  if (!pages.has(name)) pages.set(name, read(name));
  return pages.get(name);
}

// On a Mac, a wrong case would be right.
function exists(name) {
  let dir = root;
  for (const part of name.split('/').filter(Boolean)) {
    if (!fs.existsSync(dir) || !fs.statSync(dir).isDirectory() || !fs.readdirSync(dir).includes(part)) return false;
    dir = path.join(dir, part);
  }
  return true;
}

function target(page, node, url, kind) {
  count(kind);
  if (/^(?:https:|mailto:)/i.test(url)) return;
  if (/^[a-z][a-z\d+.-]*:/i.test(url)) { problem(page, node, kind, `${url}: only https: and mailto: lead elsewhere`); return; }
  if (url.startsWith('/')) { problem(page, node, kind, `${url}: the path must be relative to the page`); return; }

  let [file, anchor] = url.split(/#(.*)/s);
  try {
    file = decodeURIComponent(file);
    anchor = anchor && decodeURIComponent(anchor);
  } catch {
    problem(page, node, kind, `${url}: no URL`);
    return;
  }

  const name = file === '' ? page.name : path.posix.normalize(path.posix.join(path.posix.dirname(page.name), file)).replace(/\/$/, '');
  if (name.startsWith('..')) { problem(page, node, kind, `${url} leads out of the repository`); return; }
  if (!exists(name)) { problem(page, node, kind, `${url}: there is no ${name}`); return; }

  if (anchor === undefined) return;
  count('anchor');
  if (!name.endsWith('.md')) {
    if (!/^L\d+(?:-L\d+)?$/.test(anchor)) problem(page, node, 'anchor', `${url}: ${name} is no page with headings`);
    return;
  }
  const { anchors, headings: all } = other(name);
  if (!anchors.has(anchor)) { problem(page, node, 'anchor', `${url}: no heading of ${name} has the anchor #${anchor}`); return; }
  const heading = anchors.get(anchor);
  if (heading && all.filter((h) => h.text === heading.text).length > 1) {
    problem(page, node, 'anchor', `${url}: several headings of ${name} are "${heading.text}"`);
  }
}

function links(page) {
  visitParents(page.tree, ['link', 'image', 'definition'], (node, ancestors) => {
    if (node.type === 'image') {
      target(page, node, node.url, 'image');
      if (!node.alt?.trim()) problem(page, node, 'image-alt', `an image without a text: ${node.url}`);
      return;
    }
    target(page, node, node.url, 'link');
    if (node.type === 'link' && !toString(node).trim()) problem(page, node, 'link', `${node.url}: a link without a text`);
    if (ancestors.some((a) => a.type === 'heading')) problem(page, node, 'link', `${node.url}: a link in a heading`);
  });

  visitParents(page.tree, 'html', (node) => {
    for (const [, name, url] of node.value.replace(/<!--[\s\S]*?-->/g, '').matchAll(/\s(href|src|srcset)\s*=\s*"([^"]*)"/g)) {
      target(page, node, url, name === 'href' ? 'link' : 'image');
    }
  });

  // "[text][name]" whose name is nowhere, and "[text] (url)", are text for GitHub.
  visitParents(page.tree, 'text', (node) => {
    for (const [text] of original(page, node).matchAll(/(?<!\\)\[[^\]\n]+\](?:\[[^\]\n]*\]|\s?\([^)\s]*(?:\.md|#)[^)\s]*\))/g)) {
      problem(page, node, 'link', `${text} is shown as it stands: it is no link`);
    }
  });
}

for (const name of names) {
  const page = pages.get(name);
  for (const check of [headings, contents, tables, callouts, html, code, links]) check(page);
}

problems.sort((a, b) => (a.page < b.page ? -1 : a.page > b.page ? 1 : a.line - b.line));
process.stdout.write(JSON.stringify({ problems, diagrams, counts }));
