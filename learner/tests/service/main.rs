//! The learner over real sockets: admission, load tests, security, whole runs, streams that break, and
//! virtual time.

mod admission;
mod load;
mod run;
mod security;
mod streams;
mod virtual_time;
