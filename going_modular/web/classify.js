// A picture becomes the model's input as in Python, model.onnx answers, and the page
// shows it. model.json says how large the input is and what the classes are called.
"use strict";

// Files of onnxruntime-web: their hashes are compared before anything is run.
const HASHES = {
  "ort.wasm.bundle.min.mjs": "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
  "ort-wasm-simd-threaded.wasm": "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
};
const RUNTIME = document.body.dataset.runtime;
const part = (id) => document.getElementById(id);
let model; // a promise, from the first picture on
let latest = 0; // a picture that is overtaken by the next one is not shown

async function fetched(address, kind, integrity = "") {
  const reply = await fetch(address, { integrity, cache: "no-cache" }); // as it is now
  if (!reply.ok) throw new Error(`${address} is answered with ${reply.status}`);
  return reply[kind]();
}

async function load() {
  const [code, wasm] = Object.keys(HASHES);
  const [script, wasmBinary, file, facts] = await Promise.all([
    fetched(RUNTIME + code, "text", HASHES[code]),
    fetched(RUNTIME + wasm, "arrayBuffer", HASHES[wasm]),
    fetched("model.onnx", "arrayBuffer"),
    fetched("model.json", "json"),
  ]);
  const ort = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
  Object.assign(ort.env.wasm, { wasmBinary, numThreads: 1 });
  return { ...facts, ort, session: await ort.InferenceSession.create(file) };
}

// A load that failed is tried again with the next picture.
function forget(error) {
  model = undefined;
  throw error;
}

// Draw a file's picture, upright and on white, and return its pixels.
async function read(file) {
  const options = { colorSpaceConversion: "none" }; // Pillow does not convert either
  const bitmap = await createImageBitmap(file, options);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "white";
  pen.fillRect(0, 0, bitmap.width, bitmap.height);
  pen.drawImage(bitmap, 0, 0);
  return pen.getImageData(0, 0, bitmap.width, bitmap.height);
}

// Python rounds halves to the even number.
function round(x) {
  return x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);
}

// Return the part of the picture to take, [from, to] in x and y, and its new size.
function layout(width, height, side, resize) {
  if (resize === "crop") {
    const short = Math.min(width, height), x = (width - short) / 2, y = (height - short) / 2;
    return { x: [x, x + short], y: [y, y + short], size: [side, side] };
  }
  const scale = side / Math.max(width, height);
  const fit = (length) => (resize === "pad" ? Math.max(round(length * scale), 1) : side);
  return { x: [0, width], y: [0, height], size: [fit(width), fit(height)] };
}

// Scale rows from [from, to] to `size` pixels, and turn the picture: called twice, it
// scales both sides. It is Pillow's bilinear filter, which averages all that a new pixel
// covers; weights are whole numbers, with 22 bits for the fraction.
function scaled({ data, width, height, channels }, [from, to], size) {
  const step = (to - from) / size, reach = Math.max(step, 1);
  const result = new Uint8ClampedArray(size * height * 3);
  const columns = Array.from({ length: size }, (_, i) => {
    const center = from + (i + 0.5) * step;
    const first = Math.max(Math.trunc(center - reach + 0.5), 0);
    const end = Math.min(Math.trunc(center + reach + 0.5), width);
    const weights = [];
    for (let x = first; x < end; x++)
      weights.push(Math.max(1 - Math.abs((x - center + 0.5) / reach), 0));
    const sum = weights.reduce((a, b) => a + b);
    return [first, Int32Array.from(weights, (weight) => (weight / sum) * 2 ** 22 + 0.5)];
  });
  for (let y = 0; y < height; y++)
    columns.forEach(([first, weights], i) => {
      for (let c = 0; c < 3; c++) {
        let value = 2 ** 21; // half a level
        for (let k = 0; k < weights.length; k++)
          value += weights[k] * data[(y * width + first + k) * channels + c];
        result[(i * height + y) * 3 + c] = value >> 22;
      }
    });
  return { data: result, width: height, height: size, channels: 3 };
}

// Return the model's input, (3, side, side): squeezed, cropped or padded with black.
// Each step is rounded to 32 bits, as torchvision's are: the numbers are the same.
function prepared(image, { image_size: side, resize, mean, std }) {
  const { data: pixels, width, height } = image; // red, green, blue, opacity
  const { x, y, size } = layout(width, height, side, resize);
  const turned = scaled({ data: pixels, width, height, channels: 4 }, x, size[0]);
  const { data } = scaled(turned, y, size[1]);
  const [left, top] = size.map((length) => round((side - length) / 2));
  const input = new Float32Array(3 * side * side), short = Math.fround;
  for (let c = 0; c < 3; c++) {
    const normal = (level) => short(short(level * short(1 / 255)) - short(mean[c])) / short(std[c]);
    input.fill(normal(0), c * side * side, (c + 1) * side * side);
    for (let row = 0; row < size[1]; row++)
      for (let column = 0; column < size[0]; column++) {
        const level = data[(row * size[0] + column) * 3 + c];
        input[(c * side + top + row) * side + left + column] = normal(level);
      }
  }
  return input;
}

// Return a probability for each class; a single logit belongs to the second of two.
function softmax(logits) {
  const all = logits.length > 1 ? [...logits] : [0, ...logits];
  const powers = all.map((logit) => Math.exp(logit - Math.max(...all)));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

function say(text, note = "") {
  part("answer").textContent = text;
  part("answer").className = note ? "" : "long";
  part("note").textContent = note;
  part("bars").replaceChildren();
  part("picture").hidden = !note;
}

function show(image, probs, { class_names: names, unsure_below: limit }, note) {
  const ranked = probs.map((prob, i) => [prob, names[i]]).sort((a, b) => b[0] - a[0]);
  say(ranked[0][0] < limit ? "not sure" : ranked[0][1], note);
  for (const [prob, name] of ranked.slice(0, 3)) {
    const row = document.createElement("li");
    const [label, meter, percent] = ["span", "meter", "span"].map((tag) => document.createElement(tag));
    label.textContent = name;
    meter.ariaLabel = name;
    meter.value = prob;
    percent.textContent = `${(100 * prob).toFixed(1)} %`;
    row.append(label, meter, percent);
    part("bars").append(row);
  }
  const canvas = part("picture");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

async function answer(file) {
  const number = ++latest;
  const tell = (...words) => number === latest && say(...words);
  let problem = `${file.name} cannot be read as a picture here: choose another, such as a PNG or a JPEG.`;
  try {
    let begin = performance.now();
    const image = await read(file);
    problem = "The model cannot be loaded: is this page behind a web server, and are you online?";
    if (!model) tell(`Loading the model, and onnxruntime-web from ${new URL(RUNTIME, location).host} …`);
    const pause = performance.now();
    const facts = await (model ??= load().catch(forget));
    begin += performance.now() - pause;
    problem = "The model does not answer to this picture.";
    const shape = [1, 3, facts.image_size, facts.image_size];
    const input = new facts.ort.Tensor("float32", prepared(image, facts), shape);
    const middle = performance.now();
    const { logits } = await facts.session.run({ images: input });
    const end = performance.now();
    const note = `${Math.round(end - begin)} milliseconds, ${Math.round(end - middle)} of them for the model`;
    if (number === latest) show(image, softmax(logits.data), facts, note);
  } catch (error) {
    tell(problem);
    console.warn(error);
  }
}

part("file").addEventListener("change", ({ target }) => target.files[0] && answer(target.files[0]));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) answer(event.dataTransfer.files[0]);
});
