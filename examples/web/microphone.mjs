// Runs on the audio thread: hands every block of samples to the page.
registerProcessor('samples', class extends AudioWorkletProcessor {
  process([[samples]]) {
    if (samples) this.port.postMessage(samples.slice());
    return true;
  }
});
