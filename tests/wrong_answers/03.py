WRONG = {
    "03.1": [
        "def batch_lengths(num_samples, batch_size, drop_last):\n    return [batch_size] * (num_samples // batch_size)",
        "def batch_lengths(num_samples, batch_size, drop_last):\n    return [batch_size] * -(-num_samples // batch_size)",
        "def batch_lengths(num_samples, batch_size, drop_last):\n    full, rest = divmod(num_samples, batch_size)\n"
        "    return [batch_size] * full + ([] if drop_last else [rest])",
        "def batch_lengths(num_samples, batch_size, drop_last):\n    return -(-num_samples // batch_size)",
    ],
    "03.2": [
        "def conv_output_size(size, kernel, stride, padding):\n    return (size + 2 * padding - kernel) / stride + 1",
        "def conv_output_size(size, kernel, stride, padding):\n    return (size + padding - kernel) // stride + 1",
        "def conv_output_size(size, kernel, stride, padding):\n    return (size + 2 * padding - kernel) // stride",
        "def conv_output_size(size, kernel, stride, padding):\n    return (size + 2 * padding - kernel + 1) // stride",
        "def conv_output_size(size, kernel, stride, padding):\n    return -(-(size + 2 * padding - kernel) // stride) + 1",
    ],
    "03.3": [
        "def max_pool(images):\n    B, C, H, W = images.shape\n"
        "    return images[:, :, : H // 2 * 2, : W // 2 * 2].reshape(B, C, H // 2, 2, W // 2, 2).mean(dim=(3, 5))",
        "def max_pool(images):\n    B, C, H, W = images.shape\n"
        "    return images[:, :, : H // 2 * 2, : W // 2 * 2].reshape(B, C, 2, H // 2, 2, W // 2).amax(dim=(2, 4))",
        "def max_pool(images):\n    return images[:, :, ::2, ::2]",
        "def max_pool(images):\n    B, C, H, W = images.shape\n"
        "    return images.reshape(B, C, H // 2, 2, W // 2, 2).amax(dim=(3, 5))",
        "def max_pool(images):\n    return F.max_pool2d(images, 2, ceil_mode=True)",
    ],
    "03.4": [
        "def classifier_for(features, image_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(10 * 13 * 13, num_classes))",
        "def classifier_for(features, image_shape, num_classes):\n"
        "    out = features(torch.zeros(1, *image_shape))\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(out.shape[1], num_classes))",
        "def classifier_for(features, image_shape, num_classes):\n"
        "    out = features(torch.zeros(1, *image_shape))\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(out.shape[1] * out.shape[2] ** 2, num_classes))",
        "def classifier_for(features, image_shape, num_classes):\n"
        "    out = features(torch.zeros(1, *image_shape))\n"
        "    return nn.Linear(out.numel(), num_classes)",
        "def classifier_for(features, image_shape, num_classes):\n"
        "    out = features(torch.zeros(8, *image_shape))\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(out.numel(), num_classes))",
        "def classifier_for(features, image_shape, num_classes):\n"
        "    C, H, W = image_shape\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(C * H * W, num_classes))",
    ],
    "03.5": [
        "def stage_parameters(in_channels, out_channels):\n    return 2 * 9 * in_channels * out_channels + 4 * out_channels",
        "def stage_parameters(in_channels, out_channels):\n    return 9 * out_channels * (in_channels + out_channels)",
        "def stage_parameters(in_channels, out_channels):\n"
        "    return 9 * out_channels * (in_channels + out_channels) + 2 * out_channels",
        "def stage_parameters(in_channels, out_channels):\n"
        "    return 9 * out_channels * (in_channels + out_channels) + 6 * out_channels",
        "def stage_parameters(in_channels, out_channels):\n    return 3 * out_channels * (in_channels + out_channels)",
    ],
    "03.6": [
        "def most_confused(matrix):\n    return divmod(matrix.argmax().item(), len(matrix))",
        "def most_confused(matrix):\n    return divmod(matrix.fill_diagonal_(0).argmax().item(), len(matrix))",
        "def most_confused(matrix):\n    return divmod(matrix.clone().fill_diagonal_(0).T.argmax().item(), len(matrix))",
        "def most_confused(matrix):\n    return matrix.clone().fill_diagonal_(0).argmax().item()",
        "def most_confused(matrix):\n    n = matrix.clone().fill_diagonal_(0).argmax()\n    return n // len(matrix), n % len(matrix)",
        "def most_confused(matrix):\n    return divmod(matrix.clone().fill_diagonal_(0).argmax().item(), 10)",
    ],
}
