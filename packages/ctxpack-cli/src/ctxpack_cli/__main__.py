"""``python -m ctxpack_cli``"""

from ctxpack_cli.main import main

if __name__ == "__main__":
    main()
