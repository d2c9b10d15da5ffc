//! People with a browser: they follow links by clicking, read, search, go back, and some sign in.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::cast::PersonPart;
use super::chromium::{Browser, Page, Profile};
use super::proxy::Proxy;
use super::{Rng, Shared};

/// Pages of one visit, at least and at most.
const VISIT_PAGES: (u32, u32) = (2, 6);
/// Links in the text of a page; a data sheet would be saved instead of shown.
const LINKS: &str = "ul a, p a:not([href^='/download']):not([href='/logout'])";
const SEARCHES: [&str; 8] = [
    "river",
    "winter garden",
    "copper",
    "bridge",
    "lantern 12",
    "market",
    "silver linen",
    "beacon",
];

/// The browser as it is now: gone for a moment when it is started again.
pub(crate) type BrowserNow = watch::Receiver<Option<Arc<Browser>>>;

/// One person.
#[derive(Debug)]
pub(crate) struct Person {
    part: PersonPart,
    rng: Rng,
    proxy: Arc<Proxy>,
    profile: Option<Profile>,
}

impl Person {
    pub(crate) fn new(part: PersonPart, proxy: Arc<Proxy>, rng: Rng) -> Self {
        Self {
            part,
            rng,
            proxy,
            profile: None,
        }
    }

    /// Visits until the end. `places` are the pages that may be open at once.
    pub(crate) async fn live(mut self, shared: Arc<Shared>, mut browser: BrowserNow, places: Arc<Semaphore>) {
        let gap = shared.config.visit_gap.0;
        let mut away = gap.mul_f64(self.rng.share());
        while !shared.pause(away).await {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let now = browser.borrow_and_update().clone();
            if let Some(now) = now {
                // The browser may be busy for seconds: its end does not wait for an answer.
                let visit = tokio::select! {
                    visit = self.visit(&shared, &now) => visit,
                    () = shared.shutdown.requested() => return,
                };
                if let Err(reason) = visit {
                    tracing::debug!("a visit ended: {reason}");
                    self.profile = None;
                }
            }
            drop(place);
            away = self.rng.around(gap);
        }
    }

    async fn visit(&mut self, shared: &Shared, browser: &Arc<Browser>) -> Result<(), &'static str> {
        if self
            .profile
            .as_ref()
            .is_none_or(|profile| !profile.is_of(browser))
        {
            self.profile = Some(browser.profile(self.proxy.address).await?);
        }
        let Some(profile) = &self.profile else {
            return Err("browser_gone");
        };
        let page = profile.open_page(&[]).await?;
        let result = Self::look_around(&self.part, &mut self.rng, shared, &page).await;
        page.close().await;
        result
    }

    async fn look_around(
        part: &PersonPart,
        rng: &mut Rng,
        shared: &Shared,
        page: &Page,
    ) -> Result<(), &'static str> {
        let entry = match rng.below(6) {
            0..=2 => "/".to_owned(),
            3 => format!("/topics/{}", rng.below(12)),
            4 => format!("/articles/{}", rng.below(240)),
            _ => format!("/products/{}", rng.below(40)),
        };
        shared.page(page.go(&entry)).await?;
        let mut signs_in = part.has_account && rng.below(2) == 0;
        for _ in 1..VISIT_PAGES.0 + rng.below(VISIT_PAGES.1 - VISIT_PAGES.0 + 1) {
            if shared.pause(rng.reading(shared.config.think_time.0)).await {
                return Ok(());
            }
            match rng.below(20) {
                0 | 1 => search(rng, shared, page).await?,
                2..=5 if signs_in => {
                    signs_in = false;
                    sign_in(part.number, rng, shared, page).await?;
                }
                6 => shared.page(page.back()).await?,
                7 => follow(rng, shared, page, "nav a").await?,
                _ => follow(rng, shared, page, LINKS).await?,
            }
        }
        shared.pause(rng.reading(shared.config.think_time.0)).await;
        Ok(())
    }
}

/// Clicks on a link; a page without one is left for the start page, as people do.
async fn follow(rng: &mut Rng, shared: &Shared, page: &Page, links: &str) -> Result<(), &'static str> {
    let n = rng.below(1000);
    shared
        .page(async {
            if page.click(links, n).await? {
                Ok(())
            } else {
                page.go("/").await
            }
        })
        .await
}

async fn search(rng: &mut Rng, shared: &Shared, page: &Page) -> Result<(), &'static str> {
    follow(rng, shared, page, "nav a[href='/search']").await?;
    shared.pause(rng.around(Duration::from_secs(3))).await;
    let words = SEARCHES[rng.below(8) as usize];
    page.type_into("input[name=q]", words).await?;
    follow(rng, shared, page, "form button").await
}

/// With a slip of the finger now and then.
async fn sign_in(number: u32, rng: &mut Rng, shared: &Shared, page: &Page) -> Result<(), &'static str> {
    follow(rng, shared, page, "nav a[href='/login']").await?;
    let slips = u32::from(rng.below(5) == 0);
    for n in 0..=slips {
        shared.pause(rng.around(Duration::from_secs(5))).await;
        page.type_into("input[name=user]", &format!("person{number}"))
            .await?;
        let slip = if n < slips { "x" } else { "" };
        page.type_into("input[name=password]", &format!("pw-person{number}{slip}"))
            .await?;
        follow(rng, shared, page, "form button").await?;
    }
    Ok(())
}

/// A bot with a real browser: products in order at an even pace, without pictures, styles and scripts.
pub(crate) async fn browser_bot(
    number: u32,
    proxy: Arc<Proxy>,
    shared: Arc<Shared>,
    mut browser: BrowserNow,
    mut rng: Rng,
) {
    let mut at = rng.below(40);
    let mut away = super::tools::first_wait(&mut rng);
    while !shared.pause(away).await {
        away = shared.config.bot_pause.0;
        let now = browser.borrow_and_update().clone();
        let Some(now) = now else { continue };
        let run = async {
            let profile = now.profile(proxy.address).await?;
            let page = profile.open_page(&["*.png", "*.css", "*.js", "*.ico"]).await?;
            while !shared.pause(BROWSER_BOT_PACE).await {
                shared.page(page.go(&format!("/products/{}", at % 40))).await?;
                at += 1;
            }
            page.close().await;
            profile.close().await;
            Ok::<(), &'static str>(())
        };
        let run = tokio::select! {
            run = run => run,
            () = shared.shutdown.requested() => return,
        };
        if let Err(reason) = run {
            tracing::debug!("browser bot {number} begins again: {reason}");
        }
    }
}

/// Between two pages of the bot with a browser.
const BROWSER_BOT_PACE: Duration = Duration::from_millis(1200);
