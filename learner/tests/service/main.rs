//! The learner over real sockets: admission, load tests, security, whole runs, and streams that break.

mod admission;
mod load;
mod run;
mod security;
mod streams;
