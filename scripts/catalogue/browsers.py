# The browsers of the catalogue: Chromium by its DevTools protocol, Firefox by WebDriver BiDi, both headless.
"""Each browser visits pages and asks for everything that a page can ask for, so that every header order is seen."""

import asyncio
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request

import clients

# Asks for one of each destination, from a page of the site; what fails (404) has been asked for all the same.
EVERYTHING = r"""
(async () => {
  const pause = ms => new Promise(done => setTimeout(done, ms));
  const add = (tag, values) => { const e = Object.assign(document.createElement(tag), values); document.body.append(e); return e; };
  document.cookie = 'seen=1; path=/';
  add('style', {textContent: "@font-face{font-family:f;src:url(/assets/f.woff2)} .f{font-family:f}"});
  add('p', {className: 'f', textContent: 'x'});
  add('img', {src: '/images/9.png?1'}); add('img', {src: '/old/images/8.png'}); add('script', {src: '/old/assets/menu.js'}); add('iframe', {src: '/go/2'}); add('script', {src: '/assets/menu.js?1'});
  add('script', {type: 'module', src: '/assets/menu.js?2'});
  add('link', {rel: 'stylesheet', href: '/assets/site.css?1'}); add('link', {rel: 'icon', href: '/favicon.ico?1'});
  add('link', {rel: 'prefetch', href: '/about'}); add('link', {rel: 'manifest', href: '/assets/m.json'});
  const preload = document.createElement('link'); preload.rel = 'preload'; preload.as = 'image'; preload.href = '/images/10.png'; document.head.append(preload);
  add('iframe', {src: '/help'}); add('object', {data: '/images/11.png', type: 'image/png'}); add('embed', {src: '/images/12.png'});
  const video = add('video', {src: '/download/2'}); video.load(); add('audio', {src: '/download/1', autoplay: true});
  await Promise.allSettled([
    fetch('/api/items'), fetch('/api/items?page=1', {headers: {'X-Requested-With': 'x', accept: 'application/json'}}),
    fetch('/api/events', {method: 'POST', body: '{}', headers: {'content-type': 'application/json'}}),
    fetch('/api/events', {method: 'POST', body: new URLSearchParams({a: 1})}), fetch('/api/items', {method: 'HEAD'}),
    fetch('/download/0', {headers: {range: 'bytes=0-9'}}), fetch('/images/9.png?1', {cache: 'no-cache'}), fetch('/api/session', {credentials: 'omit'}),
    fetch('/api/items?page=2', {headers: {authorization: 'Bearer x'}}), fetch('/api/items/1', {cache: 'no-store'}),
    fetch('/go/5'), fetch('/old/api/items'), fetch('/api/items', {headers: {'X-CSRF-Token': 'x', 'X-Api-Key': 'y', 'X-Trace': 'z'}}),
    fetch('/api/items/2', {headers: {'accept-language': 'de', 'X-Own': '1'}}),
    fetch('/api/events', {method: 'POST', body: '{}', headers: {'content-type': 'application/json', 'X-CSRF-Token': 'x', authorization: 'Bearer x'}}),
    fetch('/api/events', {method: 'PUT', body: 'x'}), fetch('/images/1.png'), fetch('/images/1.png', {cache: 'no-cache'}),
  ]);
  const xhr = new XMLHttpRequest(); xhr.open('GET', '/api/items/2'); xhr.send();
  const post = new XMLHttpRequest(); post.open('POST', '/api/events'); post.setRequestHeader('content-type', 'application/json'); post.setRequestHeader('x-requested-with', 'XMLHttpRequest'); post.send('{}');
  navigator.sendBeacon('/api/events', 'x'); new EventSource('/api/stream'); try { new Worker('/assets/app.js'); } catch (e) {}
  try { new WebSocket('wss://' + location.host + '/socket'); } catch (e) {}
  try { await navigator.serviceWorker.register('/assets/app.js'); } catch (e) {}
  fetch('/api/items', {method: 'OPTIONS'}).catch(() => 0); fetch('https://localhost/api/items', {mode: 'cors'}).catch(() => 0);
  fetch('https://localhost/api/events', {method: 'POST', body: '{}', headers: {'content-type': 'application/json'}}).catch(() => 0);
  add('img', {src: 'https://localhost/images/3.png'}); add('script', {src: 'https://localhost/assets/menu.js'});
  add('img', {src: 'https://localhost/images/4.png', crossOrigin: 'anonymous'}); add('iframe', {src: 'https://localhost/about'});
  await pause(1500);
})()
"""
SUBMIT = "document.querySelector('form input[name=user]').value='ann';document.querySelector('form input[name=password]').value='%s';document.querySelector('form').submit()"
FOLLOW = "document.querySelector('a[href^=\"/articles/\"]').click()"


async def visit(evaluate, navigate, reload, name):
    """One visit: pages, forms, reloads, and a pause that lets the site close the connection, so that it is resumed."""
    await navigate(f"https://{name}/")
    await asyncio.sleep(1)
    await evaluate(EVERYTHING)
    await navigate(f"https://{name}/articles/3")
    await evaluate(FOLLOW)
    await asyncio.sleep(0.8)
    await reload()
    await asyncio.sleep(0.8)
    # A wrong password, then the right one, which leads on; and pages that are elsewhere now.
    for password in ["x", "pw-ann"]:
        await navigate(f"https://{name}/login")
        await evaluate(SUBMIT % password)
        await asyncio.sleep(0.8)
    await evaluate("document.location = '/go/3'")
    await asyncio.sleep(0.8)
    await navigate(f"https://{name}/old/articles/7")
    await navigate(f"https://{name}/search")
    await evaluate("document.querySelector('form input[name=q]').value='x';document.querySelector('form').submit()")
    await asyncio.sleep(0.8)
    # The site closes idle connections after two seconds.
    await asyncio.sleep(3)
    await navigate(f"https://{name}/topics/1")
    await evaluate("fetch('/api/items').then(r => r.text())")
    await asyncio.sleep(3)
    await navigate(f"https://{name}/topics/2")
    await asyncio.sleep(1)


class Wire:
    """Commands and answers over a WebSocket, as both protocols have them."""

    def __init__(self, socket):
        self.socket, self.n, self.waiting = socket, 0, {}
        self.reader = asyncio.create_task(self.read())

    async def read(self):
        async for text in self.socket:
            message = json.loads(text)
            if (waiting := self.waiting.pop(message.get("id"), None)) and not waiting.done():
                waiting.set_result(message)

    async def call(self, method, params=None, **more):
        self.n += 1
        waiting = self.waiting[self.n] = asyncio.get_running_loop().create_future()
        await self.socket.send(json.dumps({"id": self.n, "method": method, "params": params or {}, **more}))
        return await asyncio.wait_for(waiting, 20)


def port_of(path, pattern):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if path.exists() and (found := re.search(pattern, path.read_text(errors="replace"))):
            return int(found.group(1))
        time.sleep(0.1)
    raise RuntimeError("the browser does not open its port")


def run_browser(start, drive):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="browser-"))
    log = (folder / "log").open("w")
    process = start(folder, log)
    try:
        asyncio.run(drive(folder))
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def chromium(flags, agent=None):
    def run(spec, env, _work):
        def start(folder, log):
            command = [
                spec.needs, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
                f"--user-data-dir={folder}/profile", "--remote-debugging-port=0", "--remote-allow-origins=*", *flags,
            ]
            if agent:
                command.append(f"--user-agent={agent(spec, env)}")
            return subprocess.Popen([*command, "about:blank"], env=env, stdout=log, stderr=log)

        async def drive(folder):
            import websockets

            port = port_of(folder / "profile" / "DevToolsActivePort", r"^(\d+)")
            target = next(t for t in json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json")) if t["type"] == "page")
            async with websockets.connect(target["webSocketDebuggerUrl"], max_size=None) as socket:
                wire = Wire(socket)
                await wire.call("Page.enable")

                async def navigate(url):
                    await wire.call("Page.navigate", {"url": url})
                    await asyncio.sleep(0.5)

                async def evaluate(code):
                    await wire.call("Runtime.evaluate", {"expression": code, "awaitPromise": True, "userGesture": True})

                async def reload():
                    await wire.call("Page.reload")

                await visit(evaluate, navigate, reload, "demo.test")

        run_browser(start, drive)

    return run


def plain_agent(spec, env):
    """What the same browser sends with a window."""
    version = subprocess.run([spec.needs, "--version"], env=env, capture_output=True, text=True, check=False).stdout
    major = re.search(r"(\d+)\.", version).group(1)
    return f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{major}.0.0.0 Safari/537.36"


def firefox(prefs):
    def run(spec, env, _work):
        def start(folder, log):
            profile = folder / "profile"
            profile.mkdir()
            values = {
                "network.captive-portal-service.enabled": False, "network.connectivity-service.enabled": False,
                "browser.safebrowsing.malware.enabled": False, "browser.safebrowsing.phishing.enabled": False,
                "app.normandy.enabled": False, "services.settings.server": "data:,#remote-settings-dummy/v1",
                "datareporting.healthreport.uploadEnabled": False, "toolkit.telemetry.enabled": False, "network.http.http3.enable": False,
                "app.update.auto": False, "extensions.update.enabled": False, **prefs,
            }
            lines = [f"user_pref({json.dumps(key)}, {json.dumps(value)});" for key, value in values.items()]
            (profile / "user.js").write_text("\n".join(lines))
            command = [spec.needs, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "9333", "about:blank"]
            return subprocess.Popen(command, env=env, stdout=log, stderr=log)

        async def drive(folder):
            import websockets

            port_of(folder / "log", r"WebDriver BiDi listening on ws://127.0.0.1:(\d+)")
            async with websockets.connect("ws://127.0.0.1:9333/session", max_size=None) as socket:
                wire = Wire(socket)
                await wire.call("session.new", {"capabilities": {"alwaysMatch": {"acceptInsecureCerts": True}}})
                tree = await wire.call("browsingContext.getTree")
                context = tree["result"]["contexts"][0]["context"]

                async def navigate(url):
                    await wire.call("browsingContext.navigate", {"context": context, "url": url, "wait": "complete"})

                async def evaluate(code):
                    await wire.call("script.evaluate", {"expression": code, "target": {"context": context}, "awaitPromise": True, "userActivation": True})

                async def reload():
                    await wire.call("browsingContext.reload", {"context": context})

                await visit(evaluate, navigate, reload, "demo.test")

        run_browser(start, drive)

    return run


def all_browsers(_places):
    def of_chromium(key, run, **more):
        return clients.Client(f"chromium-{key}", "Chromium", "browser", "BoringSSL", version_command=["chromium", "--version"], needs="chromium", run=run, **more)

    def of_firefox(key, run, **more):
        return clients.Client(f"firefox-{key}", "Firefox", "browser", "NSS", version_command=["firefox-esr", "--version"], needs="firefox-esr", run=run, **more)

    return [
        of_chromium("headless", chromium([])),
        of_chromium("window-agent", chromium([], plain_agent)),
        of_chromium("http1", chromium(["--disable-http2"], plain_agent), keep_hellos=False),
        of_firefox("headless", firefox({})),
        of_firefox("http1", firefox({"network.http.http2.enabled": False}), keep_hellos=False),
    ]
