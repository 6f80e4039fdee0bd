WRONG = {
    "04.1": [
        "def is_safe(name):\n    return '..' not in name and name[0] != '/' and '\\\\' not in name and ':' not in name",
        "def is_safe(name):\n    return not name.startswith(('..', '/'))",
        "def is_safe(name):\n    return '..' not in name.split('/')",
        "def is_safe(name):\n    return not name.startswith('/') and '/../' not in name and '\\\\' not in name and ':' not in name",
        "def is_safe(name):\n    return '..' not in name.split('/') and not name.startswith('/') and '\\\\' not in name",
        "def is_safe(name):\n    return '..' in name.split('/')",
    ],
    "04.2": [
        "def labels_from(paths):\n    names = [path.split('/')[-2] for path in paths]\n"
        "    class_to_idx = {name: label for label, name in enumerate(dict.fromkeys(names))}\n"
        "    return class_to_idx, [class_to_idx[name] for name in names]",
        "def labels_from(paths):\n    names = [path.split('/')[0] for path in paths]\n"
        "    class_to_idx = {name: label for label, name in enumerate(sorted(set(names)))}\n"
        "    return class_to_idx, [class_to_idx[name] for name in names]",
        "def labels_from(paths):\n    names = [path.split('/')[-2] for path in paths]\n"
        "    class_to_idx = {name: label for label, name in enumerate(sorted(set(names)), start=1)}\n"
        "    return class_to_idx, [class_to_idx[name] for name in names]",
        "def labels_from(paths):\n    names = [path.split('/')[-2] for path in paths]\n"
        "    class_to_idx = {name: label for label, name in enumerate(sorted(names))}\n"
        "    return class_to_idx, [class_to_idx[name] for name in names]",
        "def labels_from(paths):\n    names = [path.split('/')[-2] for path in paths]\n"
        "    class_to_idx = {name: label for label, name in enumerate(sorted(set(names)))}\n"
        "    return class_to_idx, [class_to_idx[name] for name in sorted(names)]",
        "def labels_from(paths):\n    names = sorted({path.split('/')[-2] for path in paths})\n"
        "    return {name: label for label, name in enumerate(names)}",
    ],
    "04.3": [
        "def flip_some(images, coins):\n    return images.flip(dims=[3]) if coins.any() else images",
        "def flip_some(images, coins):\n    return torch.where(coins[:, None, None, None], images.flip(dims=[2]), images)",
        "def flip_some(images, coins):\n    return torch.where(coins[:, None, None, None], images, images.flip(dims=[3]))",
        "def flip_some(images, coins):\n    images[coins] = images[coins].flip(dims=[3])\n    return images",
        "def flip_some(images, coins):\n    return images[coins].flip(dims=[3])",
        "def flip_some(images, coins):\n    return torch.where(coins[:, None, None, None], images.flip(dims=[0]), images)",
        "def flip_some(images, coins):\n    return torch.where(coins, images.flip(dims=[3]), images)",
    ],
    "04.4": [
        "def leaked(train_images, test_images):\n    return (test_images[:, None] == train_images).flatten(2).any(dim=2).any(dim=1)",
        "def leaked(train_images, test_images):\n    n = min(len(train_images), len(test_images))\n"
        "    same = (train_images[:n] == test_images[:n]).flatten(1).all(dim=1)\n"
        "    return torch.cat([same, torch.zeros(len(test_images) - n, dtype=torch.bool)])",
        "def leaked(train_images, test_images):\n"
        "    sums = train_images.flatten(1).sum(dim=1), test_images.flatten(1).sum(dim=1)\n"
        "    return torch.isin(sums[1], sums[0])",
        "def leaked(train_images, test_images):\n    return (test_images[:, None] == train_images).flatten(2).all(dim=2)",
        "def leaked(train_images, test_images):\n"
        "    return (test_images[:, None] == train_images).flatten(2).all(dim=2).all(dim=1)",
        "def leaked(train_images, test_images):\n"
        "    return (test_images[:, None] == train_images).flatten(2).all(dim=2).any(dim=1).sum()",
    ],
    "04.5": [
        "def stop_early(losses, patience):\n    return len(losses), losses.index(min(losses)) + 1",
        "def stop_early(losses, patience):\n    best_epoch, best_loss = 0, losses[0]\n"
        "    for epoch, loss in enumerate(losses):\n        if loss < best_loss:\n            best_epoch, best_loss = epoch, loss\n"
        "        if epoch - best_epoch == patience:\n            break\n    return epoch, best_epoch",
        "def stop_early(losses, patience):\n    best_epoch, best_loss = 1, losses[0]\n"
        "    for epoch, loss in enumerate(losses, start=1):\n        if loss <= best_loss:\n            best_epoch, best_loss = epoch, loss\n"
        "        if epoch - best_epoch == patience:\n            break\n    return epoch, best_epoch",
        "def stop_early(losses, patience):\n    best_epoch, best_loss = 1, losses[0]\n"
        "    for epoch, loss in enumerate(losses, start=1):\n        if loss < best_loss:\n            best_epoch, best_loss = epoch, loss\n"
        "        if epoch - best_epoch > patience:\n            break\n    return epoch, best_epoch",
        "def stop_early(losses, patience):\n    best_loss, waited, best_epoch = losses[0], 0, 1\n"
        "    for epoch, loss in enumerate(losses, start=1):\n        if loss < best_loss:\n            best_epoch, best_loss = epoch, loss\n"
        "        elif epoch > 1:\n            waited += 1\n        if waited == patience:\n            break\n    return epoch, best_epoch",
        "def stop_early(losses, patience):\n    best_epoch, best_loss = 1, losses[0]\n"
        "    for epoch, loss in enumerate(losses, start=1):\n        if loss < best_loss:\n            best_epoch, best_loss = epoch, loss\n"
        "        if epoch - best_epoch == patience:\n            break\n    return epoch, epoch",
        "def stop_early(losses, patience):\n    worse, previous = 0, losses[0]\n"
        "    for epoch, loss in enumerate(losses, start=1):\n        worse = worse + 1 if loss > previous else 0\n        previous = loss\n"
        "        if worse == patience:\n            break\n    return epoch, losses.index(min(losses[:epoch])) + 1",
    ],
    "04.6": [
        "def fit_picture(image, size):\n    image = v2.functional.resize(image.permute(2, 0, 1), [size, size])\n    return image.float() / 255",
        "def fit_picture(image, size):\n    image = v2.functional.resize(image.permute(2, 0, 1), [size, size])\n    return image[None].float()",
        "def fit_picture(image, size):\n    H, W, C = image.shape\n"
        "    return v2.functional.resize(image.reshape(C, H, W), [size, size])[None].float() / 255",
        "def fit_picture(image, size):\n    image = v2.functional.resize(image.permute(2, 0, 1), [size, size])\n    return image[None]",
        "def fit_picture(image, size):\n    image = v2.functional.resize(image.permute(2, 0, 1), size)\n    return image[None].float() / 255",
        "def fit_picture(image, size):\n    image = v2.functional.resize(image.permute(2, 1, 0), [size, size])\n    return image[None].float() / 255",
        "def fit_picture(image, size):\n    return v2.functional.resize(image, [size, size])[None].float() / 255",
    ],
}
