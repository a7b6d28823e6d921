"""The recipes, one module per family; importing this package registers all of them.

A new model is one function in its family's module. A new family is a module and a name in the line below.
"""

from . import convnext, efficientnet, mobilenet, plain, resnet, stack, swin, vit, yolo

__all__ = ["convnext", "efficientnet", "mobilenet", "plain", "resnet", "stack", "swin", "vit", "yolo"]
