"""What a person may choose from. Free of torch, so that the command line can check it at once."""

DEVICES = ("auto", "xpu", "cuda", "cpu")
MODELS = ("resnet18", "resnet50", "mobilenet_v2", "googlenet")
DATA = ("digits", "synthetic")  # or a folder of images
WEIGHTS = ("digits", "imagenet", "random")
CONFIGURATIONS = ("default", "symmetric")
