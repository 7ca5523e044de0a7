// The development server keeps the browser on one origin, like Caddy in production.
export default {
  '/api': { target: process.env.API_URL ?? 'http://127.0.0.1:8000', changeOrigin: false },
};
