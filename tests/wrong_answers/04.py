"""Plausible wrong answers to the exercises of notebook 04, and unusual right ones."""

FOLDER = """\
class PictureFolder(Dataset):
    def __init__(self, folder, transform):
        self.transform, self.samples = transform, []
        self.classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        for label, name in enumerate(self.classes):
            for path in sorted((folder / name).iterdir()):
                self.samples.append((path, label))

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        path, label = self.samples[index]
        return self.transform(Image.open(path).convert("RGB")), label
"""
PATIENCE = """\
def fit_with_patience(model, one_epoch, valid_loss, patience, epochs):
    best_loss = math.inf
    for epoch in range(1, epochs + 1):
        one_epoch()
        loss = valid_loss()
        if loss < best_loss:
            best_loss, best_epoch = loss, epoch
            best_weights = copy.deepcopy(model.state_dict())
        if epoch - best_epoch == patience:
            break
    model.load_state_dict(best_weights)
    return best_epoch
"""
FIT = """\
def fit_picture(image, size):
    image = image.permute(2, 0, 1)
    image = v2.functional.resize(image, [size, size])
    return image[None].float() / 255
"""
NEAR = """\
def near_copies(train_images, test_images, limit):
    train_rows = train_images.flatten(1).float()
    test_rows = test_images.flatten(1).float()
    apart = (test_rows[:, None] - train_rows[None]).abs()
    return (apart.mean(dim=2) <= limit).any(dim=1)
"""
CHALLENGE = """\
def learn_folder(folder):
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    images, labels = [], []
    for label, name in enumerate(classes):
        for path in list_pictures(folder / name)[:40]:
            try:
                images.append(v2.functional.pil_to_tensor(read_picture(path)))
            except ValueError:
                continue
            labels.append(label)
    X, y = torch.stack(images).float() / 255, torch.tensor(labels)
    model = CNNModel(3, 3, widths=(4, 8, 8), image_size=32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for part in torch.randperm(len(X)).split(32):
        loss = nn.functional.cross_entropy(model(X[part]), y[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()

    def name_picture(path):
        image = v2.functional.pil_to_tensor(read_picture(path)).float() / 255
        with torch.inference_mode():
            return classes[model(image[None]).argmax()]

    return name_picture
"""


def changed(source, *pairs):
    """Return a right answer with some of its lines changed."""
    for old, new in pairs:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


WRONG = {
    "04.1": [
        # a file beside the class folders becomes a class
        changed(FOLDER, (" if path.is_dir()", "")),
        # the order that the disk gives, which is no order: turned around to be sure
        changed(FOLDER, ("in sorted((folder / name).iterdir())", "in sorted((folder / name).iterdir(), reverse=True)")),
        # only files that end in .png
        changed(FOLDER, ("(folder / name).iterdir()", '(folder / name).glob("*.png")')),
        changed(FOLDER, ('.convert("RGB")', "")),
        changed(FOLDER, ("self.transform(Image", "v2.functional.pil_to_tensor(Image")),
        changed(FOLDER, ('self.transform(Image.open(path).convert("RGB")), label', 'Image.open(path).convert("RGB"), label')),
        changed(FOLDER, ('convert("RGB")), label', 'convert("RGB")), self.classes[label]')),
        changed(FOLDER, ("enumerate(self.classes)", "enumerate(self.classes, start=1)")),
        changed(FOLDER, ("return len(self.samples)", "return len(self.classes)")),
        changed(FOLDER, ("sorted(path.name for path in folder.iterdir() if path.is_dir())", "sorted((path.name for path in folder.iterdir() if path.is_dir()), reverse=True)")),
        # all pictures are opened at once
        changed(
            FOLDER,
            ("self.samples.append((path, label))", "self.samples.append((transform(Image.open(path).convert('RGB')), label))"),
            ("        path, label = self.samples[index]\n        return self.transform(Image.open(path).convert(\"RGB\")), label", "        return self.samples[index]"),
        ),
        changed(FOLDER, ("self.samples[index]\n", "self.samples[0]\n")),
        changed(FOLDER, ("        path, label = self.samples[index]\n", "        path, label = self.samples[index]\n        label = torch.tensor(label)\n")),
    ],
    "04.2": [
        # the state dict is not copied: its tensors go on changing
        changed(PATIENCE, ("copy.deepcopy(model.state_dict())", "model.state_dict()")),
        changed(PATIENCE, ("copy.deepcopy(model.state_dict())", "dict(model.state_dict())")),
        changed(PATIENCE, ("    model.load_state_dict(best_weights)\n", "")),
        # any loss of 1 or more is no improvement
        changed(PATIENCE, ("best_loss = math.inf", "best_loss, best_epoch, best_weights = 1.0, 0, copy.deepcopy(model.state_dict())")),
        # restored only where it stops
        changed(PATIENCE, ("            break\n    model.load_state_dict(best_weights)\n", "            model.load_state_dict(best_weights)\n            break\n")),
        changed(PATIENCE, ("loss < best_loss", "loss <= best_loss")),
        changed(PATIENCE, ("loss < best_loss", "loss < best_loss - 1e-3")),
        changed(PATIENCE, ("== patience", "> patience")),
        changed(PATIENCE, ("== patience", "== patience - 1")),
        changed(PATIENCE, ("        if epoch - best_epoch == patience:\n            break\n", "")),
        changed(PATIENCE, ("return best_epoch", "return epoch")),
        changed(PATIENCE, ("return best_epoch", "return best_epoch - 1")),
        changed(PATIENCE, ("return best_epoch", "return best_loss")),
        changed(PATIENCE, ("range(1, epochs + 1)", "range(1, epochs)")),
        # the parameters alone: the batch norm's statistics stay those of the last epoch
        changed(
            PATIENCE,
            ("copy.deepcopy(model.state_dict())", "[p.detach().clone() for p in model.parameters()]"),
            ("    model.load_state_dict(best_weights)\n", "    for p, w in zip(model.parameters(), best_weights):\n        p.data.copy_(w)\n"),
        ),
        # waits for losses that rise, not for losses above the best
        """\
def fit_with_patience(model, one_epoch, valid_loss, patience, epochs):
    best_loss, previous, worse = 1e9, 1e9, 0
    for epoch in range(1, epochs + 1):
        one_epoch()
        loss = valid_loss()
        worse = worse + 1 if loss > previous else 0
        previous = loss
        if loss < best_loss:
            best_loss, best_epoch = loss, epoch
            best_weights = copy.deepcopy(model.state_dict())
        if worse == patience:
            break
    model.load_state_dict(best_weights)
    return best_epoch
""",
    ],
    "04.3": [
        changed(FIT, ("image[None].float()", "image.float()")),
        changed(FIT, (" / 255", "")),
        changed(FIT, (" / 255", " / 256")),
        changed(FIT, ("image[None].float() / 255", "image[None]")),
        changed(FIT, ("image[None].float() / 255", "image[None].float() / image.max()")),
        changed(FIT, ("image[None].float() / 255", "image[None].float() / 255 / 255")),
        changed(FIT, ("image.permute(2, 0, 1)", "image.reshape(image.shape[2], *image.shape[:2])")),
        changed(FIT, ("image.permute(2, 0, 1)", "image.permute(2, 1, 0)")),
        changed(FIT, ("image.permute(2, 0, 1)", "image.permute(2, 0, 1).flip(0)")),
        changed(FIT, ("image.permute(2, 0, 1)", "image.permute(2, 0, 1).flip(2)")),
        changed(FIT, ("[size, size])", "size)")),
        changed(FIT, ("    image = v2.functional.resize(image, [size, size])", "    image = v2.functional.center_crop(v2.functional.resize(image, size), [size, size])")),
        changed(FIT, ("    image = image.permute(2, 0, 1)\n", "")),
    ],
    "04.4": [
        # signed bytes wrap around, too: black and white would be near
        changed(NEAR, ("train_images.flatten(1).float()", "train_images.flatten(1).to(torch.int8)"), ("test_images.flatten(1).float()", "test_images.flatten(1).to(torch.int8)"), ("apart.mean", "apart.float().mean")),
        # bytes have no negative numbers
        changed(NEAR, ("train_images.flatten(1).float()", "train_images.flatten(1)"), ("test_images.flatten(1).float()", "test_images.flatten(1)"), ("apart.mean", "apart.float().mean")),
        changed(NEAR, (".abs()", "")),
        changed(NEAR, ("apart.mean(dim=2)", "apart.mean(dim=2).abs()"), (".abs()\n", "\n")),
        changed(NEAR, ("apart.mean(dim=2)", "apart.amax(dim=2)")),
        changed(NEAR, ("apart.mean(dim=2)", "apart.amin(dim=2)")),
        changed(NEAR, ("apart.mean(dim=2)", "apart.square().mean(dim=2).sqrt()")),
        changed(NEAR, ("<= limit", "< limit")),
        changed(NEAR, ("<= limit", "== 0")),
        changed(NEAR, (".any(dim=1)", ".all(dim=1)")),
        changed(NEAR, (".any(dim=1)", "")),
        changed(NEAR, (".any(dim=1)", ".any(dim=0)")),
        changed(NEAR, (".any(dim=1)", ".any(dim=1).sum()")),
        changed(NEAR, (".any(dim=1)", ".float().amax(dim=1)")),
        "def near_copies(train_images, test_images, limit):\n    return torch.zeros(len(test_images), dtype=torch.bool)",
        # only the picture at the same place
        "def near_copies(train_images, test_images, limit):\n    n = min(len(train_images), len(test_images))\n"
        "    same = (train_images[:n].float() - test_images[:n].float()).abs().flatten(1).mean(dim=1) <= limit\n"
        "    return torch.cat([same, torch.zeros(len(test_images) - n, dtype=torch.bool)])",
        # a loop
        "def near_copies(train_images, test_images, limit):\n    train = train_images.float()\n"
        "    return torch.stack([(train - image).abs().flatten(1).mean(dim=1).min() <= limit for image in test_images.float()])",
        # means of whole pictures
        "def near_copies(train_images, test_images, limit):\n    one, other = (x.float().flatten(1).mean(dim=1) for x in (train_images, test_images))\n"
        "    return ((other[:, None] - one).abs() <= limit).any(dim=1)",
    ],
    "04.5": [
        "def flip_some(images, coins):\n    return images.flip(dims=[3]) if coins.any() else images",
        "def flip_some(images, coins):\n    return torch.where(coins[:, None, None, None], images.flip(dims=[2]), images)",
        "def flip_some(images, coins):\n    return torch.where(coins[:, None, None, None], images, images.flip(dims=[3]))",
        "def flip_some(images, coins):\n    images[coins] = images[coins].flip(dims=[3])\n    return images",
        "def flip_some(images, coins):\n    return images[coins].flip(dims=[3])",
        "def flip_some(images, coins):\n    return torch.where(coins[:, None, None, None], images.flip(dims=[0]), images)",
        "def flip_some(images, coins):\n    return torch.where(coins, images.flip(dims=[3]), images)",
        "def flip_some(images, coins):\n    return torch.where(coins[:, None, None, None], images.flip(dims=[3]), images).float() + 0.0 * images.float().mean()",
        # a loop
        "def flip_some(images, coins):\n    return torch.stack([image.flip(2) if coin else image for image, coin in zip(images, coins)])",
        "def flip_some(images, coins):\n    return v2.RandomHorizontalFlip()(images)",
    ],
    "04.challenge": [
        CHALLENGE,  # few pictures, one epoch
        changed(CHALLENGE, ("    model.eval()\n", "")),
        changed(CHALLENGE, ("            return classes[model(image[None]).argmax()]", "            return model(image[None]).argmax()")),
        changed(CHALLENGE, ("    return name_picture\n", "    return model\n")),
        changed(CHALLENGE, ("            try:\n                images.append(v2.functional.pil_to_tensor(read_picture(path)))\n            except ValueError:\n                continue\n", "            images.append(v2.functional.pil_to_tensor(read_picture(path)))\n"), ("[:40]", "")),
        'def learn_folder(folder):\n    return lambda path: "horse"',
    ],
}  # fmt: skip
RIGHT = {
    "04.1": [
        # torchvision's own would do, and one that is called for each picture
        "class PictureFolder(ImageFolder):\n    pass",
        """\
class PictureFolder(Dataset):
    def __init__(self, folder, transform):
        self.paths = sorted(folder.glob("*/*"))
        self.classes = sorted({path.parent.name for path in self.paths})
        self.transform = transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path = self.paths[index]
        with Image.open(path) as picture:
            image = self.transform(picture.convert("RGB"))
        return [image, self.classes.index(path.parent.name)]
""",
    ],
    "04.2": [
        # the waiting is counted, and tensors are cloned one by one
        """\
def fit_with_patience(model, one_epoch, valid_loss, patience, epochs):
    losses, weights, waited = [], [], 0
    while len(losses) < epochs and waited < patience:
        one_epoch()
        losses.append(valid_loss())
        weights.append({name: value.clone() for name, value in model.state_dict().items()})
        waited = len(losses) - 1 - losses.index(min(losses))
    best = np.argmin(losses)
    model.load_state_dict(weights[best])
    return best + 1
""",
        # a copy of the whole model
        """\
def fit_with_patience(model, one_epoch, valid_loss, patience, epochs):
    best, kept = (float("inf"), 0), None
    for epoch in range(epochs):
        one_epoch()
        now = (valid_loss(), epoch + 1)
        if now < best:
            best, kept = now, copy.deepcopy(model)
        elif epoch + 1 >= best[1] + patience:
            break
    model.load_state_dict(kept.state_dict())
    return best[1]
""",
    ],
    "04.3": [
        "def fit_picture(image, size):\n    image = image.movedim(2, 0)[None] / 255\n"
        "    return nn.functional.interpolate(image, (size, size), mode='bilinear', antialias=True)",
        "def fit_picture(image, size):\n    picture = v2.functional.to_pil_image(image.permute(2, 0, 1)).resize((size, size))\n"
        "    from torchvision.transforms import ToTensor\n"
        "    return ToTensor()(picture).unsqueeze(0)",
        "def fit_picture(image, size):\n    image = v2.functional.resize(image.permute(2, 0, 1), [size, size],\n"
        "        interpolation=v2.InterpolationMode.NEAREST)\n    return v2.ToDtype(torch.float32, scale=True)(image)[None]",
    ],
    "04.4": [
        "def near_copies(train_images, test_images, limit):\n    one, other = (x.flatten(1).double() for x in (train_images, test_images))\n"
        "    return torch.cdist(other, one, p=1).amin(dim=1) / one.shape[1] <= limit + 1e-9",
        "def near_copies(train_images, test_images, limit):\n    apart = test_images[None].int() - train_images[:, None].int()\n"
        "    return apart.abs().float().mean(dim=(2, 3, 4)).min(dim=0).values.le(limit)",
    ],
    "04.5": [
        "def flip_some(images, coins):\n    result = images.clone()\n    result[coins] = images[coins].flip(3)\n    return result",
        "def flip_some(images, coins):\n    W = images.shape[3]\n    there = torch.arange(W).repeat(len(images), 1)\n"
        "    there = torch.where(coins[:, None], there.flip(1), there)[:, None, None]\n"
        "    return images.gather(3, there.expand(images.shape))",
    ],
}  # fmt: skip
