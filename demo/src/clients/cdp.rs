//! Speaks the Chrome `DevTools` Protocol over a pair of pipes: commands out, answers and page events in.
//!
//! Messages are JSON objects with a zero byte after each (`--remote-debugging-pipe`): no port is open, and
//! nobody else on the machine can drive the browser. Protocol: <https://chromedevtools.github.io/devtools-protocol/>.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::sync::{Notify, mpsc, oneshot};

/// Longest wait for an answer; a page that is being loaded answers within a second on a busy machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest message: the answers that we ask for are a few hundred bytes, events of a page some kilobytes.
const MESSAGE_MAX_BYTES: u64 = 8 << 20;
/// Commands that wait to be written.
const QUEUE_MAX: usize = 256;

/// What the reader fills.
#[derive(Debug, Default)]
struct State {
    next_id: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Result<Value, &'static str>>>,
    /// Who waits for the load of the page of a session.
    loads: BTreeMap<String, Arc<Notify>>,
    is_closed: bool,
}

/// A connection to one browser; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Cdp {
    state: Arc<Mutex<State>>,
    out: mpsc::Sender<Vec<u8>>,
}

impl Cdp {
    /// Speaks over these pipes until they close.
    pub(crate) fn new(
        mut writer: impl AsyncWrite + Unpin + Send + 'static,
        reader: impl AsyncRead + Unpin + Send + 'static,
    ) -> Self {
        let (out, mut queue) = mpsc::channel::<Vec<u8>>(QUEUE_MAX);
        let state = Arc::new(Mutex::new(State::default()));
        tokio::spawn(async move {
            while let Some(message) = queue.recv().await {
                if writer.write_all(&message).await.is_err() || writer.flush().await.is_err() {
                    break;
                }
            }
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            read_all(reader, &shared).await;
            let mut state = lock(&shared);
            state.is_closed = true;
            state.waiting.clear();
            for load in state.loads.values() {
                load.notify_waiters();
            }
        });
        Self { state, out }
    }

    /// True once the browser is gone.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).is_closed
    }

    /// Sends a command to the browser (`session` empty) or to a page, and waits for its result.
    ///
    /// # Errors
    /// The browser is gone, refuses the command or does not answer in time.
    pub(crate) async fn call(
        &self,
        session: &str,
        method: &str,
        params: Value,
    ) -> Result<Value, &'static str> {
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut state = lock(&self.state);
            if state.is_closed {
                return Err("browser_gone");
            }
            state.next_id += 1;
            let id = state.next_id;
            state.waiting.insert(id, answer);
            id
        };
        let mut message = json!({ "id": id, "method": method, "params": params });
        if !session.is_empty() {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.out.send(bytes).await.map_err(|_| "browser_gone")?;
        match tokio::time::timeout(ANSWER_TIMEOUT, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err("browser_gone"),
            Err(_) => {
                lock(&self.state).waiting.remove(&id);
                Err("browser_silent")
            }
        }
    }

    /// To be taken before what starts a load; its `notified` ends at the next load of the page.
    pub(crate) fn load_of(&self, session: &str) -> Arc<Notify> {
        // A new one each time: the permit of an earlier load would end the wait at once.
        let load = Arc::new(Notify::new());
        lock(&self.state)
            .loads
            .insert(session.to_owned(), Arc::clone(&load));
        load
    }

    /// The page of this session is closed.
    pub(crate) fn forget(&self, session: &str) {
        lock(&self.state).loads.remove(session);
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read_all(reader: impl AsyncRead + Unpin, state: &Mutex<State>) {
    let mut reader = BufReader::new(reader);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = (&mut reader)
            .take(MESSAGE_MAX_BYTES)
            .read_until(0, &mut bytes)
            .await;
        if !matches!(read, Ok(n) if n > 0) || bytes.pop() != Some(0) {
            return;
        }
        if let Ok(message) = serde_json::from_slice::<Value>(&bytes) {
            take(&message, &mut lock(state));
        }
    }
}

fn take(message: &Value, state: &mut State) {
    if let Some(id) = message["id"].as_u64() {
        if let Some(answer) = state.waiting.remove(&id) {
            let result = match message.get("error") {
                None => Ok(message["result"].clone()),
                Some(error) => {
                    tracing::debug!("the browser refused a command: {error}");
                    Err("browser_refused")
                }
            };
            // Nobody waits any more when the command was given up.
            let _given_up = answer.send(result).is_err();
        }
    } else if message["method"] == "Page.loadEventFired"
        && let Some(load) = message["sessionId"]
            .as_str()
            .and_then(|session| state.loads.get(session))
    {
        load.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_go_to_who_asked_and_loads_to_who_waits() {
        let (ours, theirs) = tokio::io::duplex(4096);
        let (reader, writer) = tokio::io::split(ours);
        let cdp = Cdp::new(writer, reader);
        let load = cdp.load_of("s1");
        let browser = tokio::spawn(async move {
            let (reader, mut writer) = tokio::io::split(theirs);
            let mut reader = BufReader::new(reader);
            let mut ids = Vec::new();
            for _ in 0..2 {
                let mut bytes = Vec::new();
                reader.read_until(0, &mut bytes).await.unwrap();
                bytes.pop();
                let message: Value = serde_json::from_slice(&bytes).unwrap();
                ids.push((message["id"].clone(), message["method"].clone()));
            }
            for (id, method) in ids.iter().rev() {
                let answer = json!({ "id": id, "result": { "asked": method } });
                writer.write_all(format!("{answer}\0").as_bytes()).await.unwrap();
            }
            let event = json!({ "method": "Page.loadEventFired", "sessionId": "s1" });
            writer.write_all(format!("{event}\0").as_bytes()).await.unwrap();
        });
        let (a, b) = tokio::join!(cdp.call("", "A.a", json!({})), cdp.call("s1", "B.b", json!({})));
        assert_eq!(
            (&a.unwrap()["asked"], &b.unwrap()["asked"]),
            (&json!("A.a"), &json!("B.b"))
        );
        load.notified().await;
        browser.await.unwrap();
        while !cdp.is_closed() {
            tokio::task::yield_now().await;
        }
        assert_eq!(cdp.call("", "C.c", json!({})).await, Err("browser_gone"));
    }
}
