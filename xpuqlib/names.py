"""What a person may choose from. Free of torch, so that the command line can check it at once."""

DEVICES = ("auto", "xpu", "cuda", "cpu")
# Those of the lessons; any other classification model of torchvision is taken, too.
MODELS = ("resnet18", "resnet50", "mobilenet_v2", "googlenet")
RESCALED = {"resnet18_rescaled": "resnet18"}  # lesson 09's: int8 breaks it
TRANSFORMERS = ("vit", "text")  # lesson 11's: of images, and of words
DATA = ("digits", "synthetic", "text")  # or a folder of images, or a factory
WEIGHTS = ("auto", "digits", "imagenet", "random")  # or the file of a state dict
CONFIGURATIONS = ("default", "symmetric")
