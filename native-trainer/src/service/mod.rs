//! The service of `magpie serve --api`: JSON over HTTP on a published site's own bundle.
//!
//! | module | what |
//! |---|---|
//! | `http`, `log`, `metrics`, `schema` | bodies; files that grow by frames; figures; types as schemas |
//! | `problem` | errors as documents |
//! | `auth`, `change`, `fitting`, `limits`, `multipart`, `tls` | who may what; what may be done to a gallery; whether options fit; how much at once; forms; how connections are encrypted |
//! | `filter`, `journal` | which classes are meant; changes that were answered, on the disk |
//! | `corrections`, `store` | what visitors say; the gallery as requests see it, and who changes it: in a folder, or in a database |
//! | `asked`, `queue`, `types` | what a request brings; one queue before the networks; JSON |
//! | `routes`, `openapi` | what is answered, by subject; its description |
//! | `connection` | connections, and their end |

mod asked;
mod auth;
mod change;
mod connection;
mod corrections;
mod filter;
mod fitting;
mod http;
mod journal;
mod limits;
mod log;
mod metrics;
mod multipart;
mod openapi;
mod problem;
mod queue;
mod routes;
mod schema;
mod seat;
mod store;
mod tls;
mod types;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hyper::header::HeaderValue;
use models::bundle::{Bundle, MAX_FILE_BYTES};
use models::gallery::Gallery;
use models::recognizer::RecognizerSettings;

use crate::cli::{DeviceKind, probe};
use crate::files;
use crate::publishing::host::Host;
use crate::publishing::site::{bundle_of, read_manifest};
use auth::{Gate, Hosts, Token};
use corrections::Corrections;
pub(crate) use journal::is_kept;
use limits::{Budget, Limits};
use metrics::Metrics;
use queue::Queue;
use store::{Rules, Store};
pub(crate) use tls::Pair;
use tls::Tls;

/// What an owner says about the service.
#[derive(Debug)]
pub(crate) struct Options {
    /// The published site.
    pub(crate) site: PathBuf,
    /// Where changes are kept.
    pub(crate) state: Option<PathBuf>,
    /// Where changes are kept otherwise: the address of a database, and the name of the gallery there.
    pub(crate) database: Option<(String, String)>,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) device: DeviceKind,
    /// Files with tokens: who may change, who may ask.
    pub(crate) token: Option<PathBuf>,
    pub(crate) read_token: Option<PathBuf>,
    /// The files of a certificate and its key.
    pub(crate) tls: Option<Pair>,
    pub(crate) origins: Vec<HeaderValue>,
    /// Names that it is asked by, beside its own.
    pub(crate) hosts: Vec<String>,
    /// Whether visitors may say what things are.
    pub(crate) corrections: bool,
    /// Whether its owner has a page.
    pub(crate) manage: bool,
    pub(crate) max_body: usize,
    pub(crate) max_pixels: u64,
    pub(crate) max_seconds: u64,
    pub(crate) max_requests: usize,
    pub(crate) max_queue: usize,
}

/// Everything that requests share.
pub(crate) struct Service {
    title: String,
    /// What `openapi.json` is.
    description: String,
    settings: RecognizerSettings,
    has_detector: bool,
    gate: Gate,
    /// How connections are encrypted, if they are.
    tls: Option<Tls>,
    limits: Limits,
    budget: Budget,
    metrics: Arc<Metrics>,
    queue: Arc<Queue>,
    store: Store,
    /// What visitors say, where the owner wants to know.
    corrections: Option<Arc<Corrections>>,
    /// Whether its owner has a page.
    manage: bool,
    /// The site's own files.
    host: Host,
    begun: Instant,
    ending: AtomicBool,
    working: AtomicUsize,
}

impl Service {
    /// Opens a site's bundle, and the gallery of its state folder.
    ///
    /// # Errors
    ///
    /// A site without a bundle that can be used, a state folder that another process has.
    fn open(options: &Options) -> anyhow::Result<Self> {
        let bundle = &bundle_of(&options.site);
        let manifest = read_manifest(bundle)?;
        if !manifest.shards.is_empty() {
            bail!(
                "{}: its gallery is in shards, which pages fetch in parts; publish it whole for a service, by `magpie \
                 publish --shards never`",
                bundle.display()
            );
        }
        let file = |name: &str| files::read(&bundle.join(name), MAX_FILE_BYTES).ok();
        let mut recognizer = Bundle::open(&manifest, file, options.device.target()?)
            .with_context(|| bundle.display().to_string())?;
        if let Some(detector) = recognizer.detector() {
            probe::check_detector(detector).with_context(|| bundle.display().to_string())?;
        }
        let settings = recognizer.settings().clone();
        let own = recognizer.gallery();
        let (empty, rules) = (Gallery::new(own.dim(), own.model()), Rules::new(&settings, own));
        let has_detector = recognizer.detector().is_some();
        // The store has it from now on.
        let gallery = recognizer.replace_gallery(empty)?;
        let token = |path: &Option<PathBuf>| path.as_deref().map(Token::read).transpose();
        // Where a token is needed to ask, or the address is there for others, a name tells nothing.
        let is_own = options.address.is_loopback() && options.read_token.is_none();
        let hosts = (is_own || !options.hosts.is_empty())
            .then(|| Hosts::new(options.address, &options.hosts));
        let gate = Gate {
            hosts,
            change: token(&options.token)?,
            read: token(&options.read_token)?,
            origins: options.origins.clone(),
            is_encrypted: options.tls.is_some(),
        };
        let tls = options.tls.clone().map(Tls::open).transpose()?;
        let store = match (&options.state, &options.database) {
            (_, Some((server, name))) => {
                Store::shared((server, name), &gallery, rules, options.token.is_some())?
            }
            (Some(folder), None) => Store::open(folder.clone(), gallery, rules)?,
            (None, None) => Store::fixed(gallery, &rules),
        };
        let own = store.current();
        let corrections = match (&options.state, &options.database) {
            (_, Some((server, name))) if options.corrections => {
                Some(Corrections::shared((server, name), &own.gallery)?)
            }
            (Some(folder), None) if options.corrections => {
                Some(Corrections::open(folder, &own.gallery)?)
            }
            _ => None,
        };
        let corrections = corrections.map(Arc::new);
        let limits = Limits {
            body: options.max_body,
            pixels: options.max_pixels,
            time: Duration::from_secs(options.max_seconds),
            requests: options.max_requests,
            queue: options.max_queue,
        };
        let metrics = Arc::new(Metrics::default());
        let queue = Queue::start(recognizer, limits.queue, Arc::clone(&metrics))?;
        Ok(Self {
            title: manifest.title,
            description: openapi::text()?,
            settings,
            has_detector,
            gate,
            tls,
            budget: Budget::new(&limits),
            limits,
            metrics,
            queue,
            store,
            corrections,
            manage: options.manage,
            host: Host::new(&options.site, options.origins.clone()),
            begun: Instant::now(),
            ending: AtomicBool::new(false),
            working: AtomicUsize::new(0),
        })
    }

    /// Whether no more requests are wanted.
    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Requests that are worked on.
    fn working(&self) -> usize {
        self.working.load(Ordering::Acquire)
    }
}

/// Serves a site with its API until the process is told to end; what was begun by then is answered.
///
/// # Errors
///
/// A site, a state folder, a token or a port that cannot be had.
pub(crate) fn serve(options: &Options) -> anyhow::Result<()> {
    let is_kept = options.state.is_some() || options.database.is_some();
    if options.token.is_some() && !is_kept {
        bail!(
            "--token-file lets clients change the gallery: say by --state or --server where changes are kept"
        );
    }
    let pair = options.tls.as_ref();
    let kept = [
        ("--state", options.state.as_ref()),
        ("--token-file", options.token.as_ref()),
        ("--token-file-read", options.read_token.as_ref()),
        ("--key", pair.map(|pair| &pair.key)),
    ];
    for (flag, path) in kept {
        // A link in the site is a name by which it is asked for, wherever it leads.
        let is_in_site = |path: &PathBuf| {
            let places = [path.as_path(), files::folder_of(path)];
            places.into_iter().any(|place| files::within(place, &options.site).is_some())
        };
        if path.is_some_and(is_in_site) {
            bail!(
                "{flag}: lies in the site, whose files are sent to whoever asks; choose a place beside it"
            );
        }
        if let Some(name) = path.and_then(|path| files::name_inside(path, &options.site)) {
            bail!(
                "{flag}: is also {}, in the site, whose files are sent to whoever asks (a hard link); take that name away",
                name.display()
            );
        }
    }
    let service = Arc::new(Service::open(options)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(connection::serve(
        Arc::clone(&service),
        (options.address, options.port),
        &options.site,
    ));
    service.queue.end();
    service.store.end();
    served
}
