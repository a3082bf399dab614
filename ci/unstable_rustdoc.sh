#!/bin/sh
# rustdoc that may do what is unstable (JSON, coverage), to be given to cargo as RUSTDOC. Only rustdoc is
# told so: the build scripts of some dependencies look at that variable too, and would be built anew by
# every other command.
RUSTC_BOOTSTRAP=1 exec rustdoc "$@"
