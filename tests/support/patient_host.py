"""`llama stack run`, whose uvicorn waits a minute for a worker that is silent, and not five seconds.

On a busy machine a worker imports for longer than that; its parent kills it and starts the next one, without end.
"""

import functools

import uvicorn
from llama_stack.cli.llama import main

if __name__ == "__main__":
    uvicorn.run = functools.partial(uvicorn.run, timeout_worker_healthcheck=60)
    main()
