"""Run directories on object storage: a working directory of this machine, published under a prefix of a bucket."""
