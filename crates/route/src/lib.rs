//! Which index and which outputs an event goes to, and what fraction of its kind is kept.
//!
//! [`RouteConfig`] is a route as written, [`Router`] all of them compiled. A router answers for one consumer
//! (output) at a time and is a pure function of event, routes and keys: no clock, no state that a decision
//! depends on, so that a replay and a consumer that is an hour behind decide the same. Index names are built from
//! a fixed list of fields ([`template`]) and cannot leave their literal beginning; fractions are nested
//! ([`keep`]): what is kept at 2% is kept at 10% too.
//!
//! ```
//! use auditship_event::{Event, Keys};
//! use auditship_route::{Place, Router, Routed, Verdict, default_routes};
//! use auditship_rule::Facts;
//! let outputs = ["search".to_string(), "archive".to_string()];
//! let routes = default_routes(&outputs[1..], &outputs[..1]);
//! let router = Router::compile(&routes, &outputs, &Place { cluster: "prod", node: "n1" }).unwrap();
//! let event = Event::parse(br#"{"verb":"delete","user":{"username":"alice"}}"#).unwrap();
//! let mut routed = Routed::default();
//! let keys = Keys::derive(b"key", "prod");
//! let search = router.output("search").unwrap();
//! assert_eq!(router.route(&Facts::new(&event), search, &keys, &mut routed), Verdict::Deliver);
//! assert_eq!(routed.hits[0].1.as_str(), "k8s-audit-changes");
//! ```

pub mod defaults;
pub mod keep;
pub mod router;
pub mod template;

pub use defaults::default_routes;
pub use keep::{Fraction, KeepWord};
pub use router::{OutputId, Place, RouteConfig, RouteId, Routed, Router, Verdict};
pub use template::{Names, Template};
