"""One framework a file: what hooks on torch cannot know. Epochs, evaluations, step numbers on resume, logged values."""


def missing_package(module: str, package: str) -> ModuleNotFoundError:
    """What importing an integration without its framework raises: what needs which package, and how to get it."""
    return ModuleNotFoundError(f"{module} needs the package {package}. Type: pip install {package}", name=package)


__all__: list[str] = ["missing_package"]
