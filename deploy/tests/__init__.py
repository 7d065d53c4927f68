"""The checks of deploy/ and of the documents. Each runs from the repository's root, as a module:

    python3 -m deploy.tests.observability.check_promql

The Makefile's targets `cluster-check`, `page-test`, `cluster-test`, `cuda-check` and `cuda-image-check` run all of them
in the virtual environment that `make .tools/deploy/complete` fills from the `requirements.txt` files.
"""
