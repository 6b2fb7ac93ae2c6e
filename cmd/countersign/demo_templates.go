package main

import "html/template"

// tppTemplates are the sample app's pages: one layout, and for each page a template named like its main element.
var tppTemplates = template.Must(template.Must(template.New("tpp").Parse(tppLayout)).Parse(tppPagesText))

const tppLayout = `{{define "layout"}}<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{{if or (eq .ID "app_phone") (eq .ID "app_waiting")}}<meta http-equiv="refresh" content="5">{{end}}
<title>{{.Title}} · {{.App}}</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header><a href="/"><span class="nut" aria-hidden="true"></span>{{.App}}</a><small>a sample app</small></header>
<main id="{{.ID}}">
{{if eq .ID "app_home"}}{{template "app_home" .}}
{{else if eq .ID "app_accounts"}}{{template "app_accounts" .}}
{{else if eq .ID "app_ended"}}{{template "app_ended" .}}
{{else if eq .ID "app_refused"}}{{template "app_refused" .}}
{{else if eq .ID "app_phone"}}{{template "app_phone" .}}
{{else if eq .ID "app_waiting"}}{{template "app_waiting" .}}
{{else}}{{template "app_problem" .}}{{end}}
</main>
<footer>Part of <code>countersign demo</code>. No money was moved, no bank was harmed.</footer>
</body>
</html>{{end}}

{{define "connect"}}<form method="post" action="/connect"><button id="connect_button" type="submit">{{.}}</button></form>{{end}}`

const tppPagesText = `{{define "app_home"}}
<section class="hero">
<h1>See where your money goes</h1>
<p class="lead">{{.App}} reads your accounts and shows them in one place. It never sees your bank password and cannot move any money.</p>
{{template "connect" "Connect your bank"}}
</section>
<ol class="how">
<li><strong>You go to your bank</strong> <span>You sign in at {{.Bank}}, on its own page, with your second factor.</span></li>
<li><strong>You choose</strong> <span>Your bank shows what we ask for, and you pick the accounts.</span></li>
<li><strong>You stay in charge</strong> <span>You can end it any day, here or at your bank.</span></li>
</ol>
<p class="aside">Trying the demo? <a id="phone_link" href="/phone" target="_blank" rel="noopener">Alice’s phone</a> shows her password and the code of the moment.</p>
{{end}}

{{define "app_accounts"}}
<h1>Your accounts</h1>
<p class="lead">From {{.Bank}}, as you allowed.</p>
{{range .V}}<article>
<div class="account"><h2>{{.Name}} <span class="number">{{.Number}}</span></h2><p class="balance">{{.Balance}} <small>{{.Currency}}</small></p></div>
{{with .Entries}}<table>
<caption class="unseen">Latest transactions</caption>
<tbody>{{range .}}<tr><td class="day">{{.Day}}</td><td>{{.Text}}</td><td class="amount{{if not .Out}} in{{end}}">{{.Amount}}</td></tr>
{{end}}</tbody>
</table>{{end}}
</article>
{{else}}<p>You have chosen no account.</p>{{end}}
<div class="actions">
<a class="button second" id="reload_link" href="/">Look again</a>
<form method="post" action="/disconnect"><button id="disconnect_button" class="second" type="submit">Disconnect</button></form>
</div>
<p class="aside">You can also end this at your bank: <a href="{{.Manage}}">what you have agreed to</a>. Then look again here.</p>
{{end}}

{{define "app_ended"}}
<section class="hero">
<h1>The connection has ended</h1>
<p class="lead">{{.Bank}} no longer lets us read your accounts: you ended the permission there, or it has run out. We have forgotten what we showed.</p>
{{template "connect" "Connect again"}}
</section>
{{end}}

{{define "app_refused"}}
<section class="hero">
<h1>Nothing was connected</h1>
<p class="lead">You said no at {{.Bank}}, and that is all we know. Should you change your mind:</p>
{{template "connect" "Connect your bank"}}
</section>
{{end}}

{{define "app_problem"}}
<section class="hero">
<h1>That did not work</h1>
<p class="lead">We could not connect to {{.Bank}}.</p>
<p class="reason"><code>{{.V}}</code></p>
{{template "connect" "Try again"}}
</section>
{{end}}

{{define "app_waiting"}}
<section class="hero"><h1>One moment</h1><p class="lead">Alice has not set up her phone yet. The demo does that for her as it begins.</p></section>
{{end}}

{{define "app_phone"}}
<section class="phone">
<h1>Alice’s phone</h1>
<p class="lead">For trying the demo: what Alice has in her head and in her authenticator app.</p>
<p class="code"><output id="code">{{.V.Code}}</output> <span class="left">for {{.V.Seconds}} s more</span></p>
<dl>
<div><dt>User name</dt><dd><code id="username">{{.V.Username}}</code></dd></div>
<div><dt>Password</dt><dd><code id="password">{{.V.Password}}</code></dd></div>
<div><dt>Secret</dt><dd><code id="secret">{{.V.Secret}}</code></dd></div>
</dl>
<p class="aside">Each code works once. To use your own app, scan this or <a href="{{.V.URI}}">open it</a>:</p>
{{with .V.QR}}<img src="{{.}}" width="232" height="232" alt="QR code of the secret above">{{end}}
</section>
{{end}}`

const tppStyle = `:root {
  color-scheme: light dark;
  --page: #f7f3ec; --card: #fffdf9; --text: #2b2118; --muted: #6d5c4b; --line: #e7ddcf;
  --brand: #8a4a12; --on-brand: #ffffff; --in: #2a6a35;
}
@media (prefers-color-scheme: dark) {
  :root { --page: #17120d; --card: #211a13; --text: #f3ebe1; --muted: #c0af9c; --line: #3b3025; --brand: #e5a35f; --on-brand: #24150a; --in: #95d39f; }
}
*, *::before, *::after { box-sizing: border-box; }
html { font: 100%/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif; -webkit-text-size-adjust: 100%; }
body { margin: 0; min-height: 100vh; min-height: 100svh; display: flex; flex-direction: column; background: var(--page); color: var(--text); overflow-wrap: anywhere; }
h1, h2, p, ol, dl, dd { margin: 0; padding: 0; }
h1 { font-size: 1.75rem; line-height: 1.2; letter-spacing: -0.015em; text-wrap: balance; }
h2 { font-size: 1.0625rem; }
a { color: var(--brand); text-underline-offset: 0.18em; }
:focus-visible { outline: 3px solid var(--brand); outline-offset: 2px; border-radius: 0.25rem; }
code { font-family: ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; font-size: 0.9375em; }
header, main, footer { width: 100%; max-width: 42rem; margin-inline: auto; padding-inline: 1.25rem; }
header { display: flex; align-items: center; justify-content: space-between; gap: 1rem; padding-block: 1.25rem; }
header a { display: inline-flex; align-items: center; gap: 0.625rem; font-weight: 700; font-size: 1.125rem; color: var(--text); text-decoration: none; }
header small, .aside, footer { color: var(--muted); font-size: 0.9375rem; }
.nut { width: 1.5rem; height: 1.75rem; border-radius: 45% 45% 50% 50% / 30% 30% 70% 70%; background: linear-gradient(var(--text) 0 34%, var(--brand) 34%); }
main { display: grid; gap: 1.5rem; align-content: start; padding-block: 1rem 3rem; }
main > * { min-width: 0; }
footer { margin-top: auto; padding-block: 1.5rem; border-top: 1px solid var(--line); }
.lead { color: var(--muted); font-size: 1.0625rem; margin-top: 0.5rem; text-wrap: pretty; }
h1 + .lead { margin-top: 0.5rem; }
main > .lead { margin-top: -1rem; }
.hero, article, .phone { background: var(--card); border: 1px solid var(--line); border-radius: 0.75rem; padding: 1.75rem 1.5rem; }
.hero form { margin-top: 1.5rem; }
button, .button { font: inherit; font-weight: 650; min-height: 3rem; padding: 0.625rem 1.5rem; border: 1px solid var(--brand); border-radius: 0.5rem; background: var(--brand); color: var(--on-brand); cursor: pointer; text-decoration: none; display: inline-flex; align-items: center; justify-content: center; }
button:hover, .button:hover { filter: brightness(1.08); }
.second { background: transparent; color: var(--brand); }
.how { list-style: none; display: grid; gap: 1rem; counter-reset: n; }
.how li { counter-increment: n; display: grid; grid-template-columns: 2rem 1fr; column-gap: 0.75rem; }
.how li::before { content: counter(n); grid-row: 1 / 3; width: 2rem; height: 2rem; display: grid; place-items: center; border-radius: 50%; border: 1px solid var(--line); background: var(--card); color: var(--brand); font-weight: 700; }
.how span { color: var(--muted); }
article { padding: 1.25rem 1.5rem; }
.account { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: baseline; gap: 0.25rem 1rem; }
.number { color: var(--muted); font-weight: 400; white-space: nowrap; }
.balance { font-size: 1.375rem; font-weight: 700; font-variant-numeric: tabular-nums; white-space: nowrap; }
.balance small { font-size: 0.875rem; font-weight: 400; color: var(--muted); }
table { width: 100%; border-collapse: collapse; margin-top: 0.875rem; }
td { padding: 0.5rem 0.75rem 0.5rem 0; border-top: 1px solid var(--line); vertical-align: baseline; }
td:last-child { padding-right: 0; }
.day { color: var(--muted); white-space: nowrap; width: 1%; }
.amount { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.in { color: var(--in); font-weight: 600; }
.actions { display: flex; flex-wrap: wrap; gap: 0.75rem; }
.phone { display: grid; gap: 1.25rem; justify-items: start; }
.phone > .lead { margin-top: -0.75rem; }
.code { font-size: 2.5rem; font-weight: 700; letter-spacing: 0.06em; font-variant-numeric: tabular-nums; line-height: 1.2; }
.left { font-size: 1rem; font-weight: 400; letter-spacing: 0; color: var(--muted); white-space: nowrap; }
dl { display: grid; gap: 0.5rem; }
dl div { display: grid; grid-template-columns: 6.5rem 1fr; }
dt { color: var(--muted); }
img { background: #fff; border-radius: 0.5rem; max-width: 100%; height: auto; }
.reason { margin-top: 1rem; padding: 0.75rem 1rem; background: var(--page); border-radius: 0.5rem; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
@media (max-width: 30rem) {
  .hero, article, .phone { margin-inline: -1.25rem; border-inline: 0; border-radius: 0; padding-inline: 1.25rem; }
  .hero button, .actions > *, .actions button { width: 100%; }
  .code { font-size: 2.25rem; }
}
`
